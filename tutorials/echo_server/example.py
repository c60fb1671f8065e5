"""An echo server: the parent accepts connections and hands their sockets to four children.

Run it with: python tutorials/echo_server/example.py
"""

import socket
from collections.abc import Callable
from pathlib import Path

from relieve_py import CallableTask, CloudWorker, Reply

ECHO = Path(__file__).with_name("echo.py")


class Client:
    """Somebody who talks to the server over TCP."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.stream = self.connection.makefile("rw", encoding="utf-8", newline="\n")

    def say(self, words: str) -> str:
        self.stream.write(f"{words}\n")
        self.stream.flush()
        return self.stream.readline().rstrip()

    def leave(self) -> None:
        self.stream.close()
        self.connection.close()


def welcome(listener: socket.socket, hand_over: Callable[[socket.socket], Reply]) -> Client:
    """Let one client connect, and give its connection to a child."""
    client = Client(listener.getsockname()[1])
    connection, _ = listener.accept()
    with connection:  # the child has a descriptor of its own; this one is closed here
        hand_over(connection)
    return client


def talk(clients: list[Client]) -> None:
    """All are connected at the same time; each says something."""
    answers = [client.say(f"hello from client {number}") for number, client in enumerate(clients, start=1)]
    print(*sorted(answers), sep="\n")
    for client in clients:
        client.leave()


def main() -> None:
    tasks = [CallableTask(ECHO, name=name) for name in ("anna", "berta", "clara", "dora")]
    with CloudWorker(*tasks) as worker, socket.create_server(("127.0.0.1", 0)) as listener:
        print("by call, where a child serves one client at a time:")
        talk([welcome(listener, lambda connection: worker.call("serve", connection)) for _ in range(4)])
        worker.drain().result()
        print("by send, where a child may serve many:")
        talk([welcome(listener, lambda connection: worker.send("connection", connection)) for _ in range(8)])


if __name__ == "__main__":
    main()
