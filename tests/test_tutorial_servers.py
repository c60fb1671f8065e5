"""The servers of the tutorials with many more clients than they show; with RELIEVE_FULL set, 10,000."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, Reply

TUTORIALS = Path(__file__).parent.parent / "tutorials"
CONNECTIONS = 10_000 if os.environ.get("RELIEVE_FULL") else 300
AT_A_TIME = 100


def example(name: str) -> Any:
    """The example of that tutorial, as a module."""
    spec = importlib.util.spec_from_file_location(f"tutorial_{name}", TUTORIALS / name / "example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def talk(port: int, accept: Callable[[], Reply], count: int) -> list[str]:
    """So many clients at the same time, each with a line and its answer."""
    with ExitStack() as stack:
        clients, handed_over = [], []
        for _ in range(count):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)))
            handed_over.append(accept())
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        answers = [client.makefile("rb").readline().decode() for client in clients]
        for reply in handed_over:
            reply.result(20)
        return answers


@pytest.mark.timeout(240)
def test_connections_that_the_parent_accepts_are_served_by_four_tasks() -> None:
    served: Counter[str] = Counter()
    with (
        CloudWorker(CallableTask(TUTORIALS / "echo_server" / "echo.py"), size=4) as worker,
        socket.create_server(("127.0.0.1", 0), backlog=AT_A_TIME) as listener,
    ):

        def accept() -> Reply:
            connection, _ = listener.accept()
            with connection:
                return worker.send("connection", connection)

        for _ in range(CONNECTIONS // AT_A_TIME):
            answers = talk(listener.getsockname()[1], accept, AT_A_TIME)
            assert [answer.split(": ")[1] for answer in answers] == [f"{n}\n" for n in range(AT_A_TIME)]
            served.update(answer.split(": ")[0] for answer in answers)
        assert served.total() == CONNECTIONS
        assert served.keys() == {task.name for task in worker}
        assert max(served.values()) <= CONNECTIONS / 4 + 4 * AT_A_TIME / 100


@pytest.mark.timeout(240)
def test_no_connection_is_refused_while_children_that_share_a_port_are_replaced_again_and_again() -> None:
    clients_of = example("shared_port").Clients
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)
        task = CallableTask(TUTORIALS / "shared_port" / "server.py", args=[listener])
        with CloudWorker(task, size=4) as worker:
            clients = clients_of(listener.getsockname()[1], at_a_time=8)
            try:
                for _ in range(2):
                    clients.wait_for(CONNECTIONS // 3)
                    before = {task.pid for task in worker}
                    worker.reload().result(60)
                    after = {task.pid for task in worker}
                    assert not before & after
                clients.wait_for(CONNECTIONS // 3)
            finally:
                clients.end()
            answered = Counter(clients.answers)
    assert clients.failures == []
    assert answered.total() >= CONNECTIONS
    assert sum(answered[pid] for pid in after if pid is not None) > 0
