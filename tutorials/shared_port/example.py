"""Four children take connections from one port, and are replaced by others while clients keep coming.

Run it with: python tutorials/shared_port/example.py
"""

import socket
import threading
from pathlib import Path

from relieve_py import CallableTask, CloudWorker

SERVER = Path(__file__).with_name("server.py")


class Clients:
    """Clients that come one after the other, several at a time, until they are told to end."""

    def __init__(self, port: int, at_a_time: int) -> None:
        self.port = port
        self.answers: list[int] = []  # the pid of each child that answered
        self.failures: list[OSError] = []
        self.changed = threading.Condition()
        self.ended = False
        self.threads = [threading.Thread(target=self.come) for _ in range(at_a_time)]
        for thread in self.threads:
            thread.start()

    def come(self) -> None:
        while not self.ended:
            try:
                pid = self.ask()
            except OSError as error:  # refused, or closed without an answer
                self.failures.append(error)
                pid = 0
            with self.changed:
                self.answers.append(pid)
                self.changed.notify()

    def ask(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"hello\n")
            answer = connection.recv(100).decode()
        if not answer.endswith(" hello\n"):
            raise ConnectionError(f"an answer that is none: {answer!r}")
        return int(answer.split()[0])

    def wait_for(self, more: int) -> None:
        """Until so many more were answered."""
        with self.changed:
            goal = len(self.answers) + more
            self.changed.wait_for(lambda: len(self.answers) >= goal)

    def end(self) -> None:
        self.ended = True
        for thread in self.threads:
            thread.join()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)  # several children may be told of one connection
        with CloudWorker(CallableTask(SERVER, args=[listener]), size=4) as worker:
            old = {task.pid for task in worker}
            clients = Clients(listener.getsockname()[1], at_a_time=8)
            clients.wait_for(100)
            print("asking for a reload after", len(clients.answers), "answers")
            worker.reload().result()
            new = {task.pid for task in worker}
            clients.wait_for(100)
            clients.end()

    print("children that are still there:", len(old & new))
    print("answers of the old children:", sum(pid in old for pid in clients.answers))
    print("answers of the new children:", sum(pid in new for pid in clients.answers))
    print("clients that were turned away:", len(clients.failures))
    assert not clients.failures, clients.failures


if __name__ == "__main__":
    main()
