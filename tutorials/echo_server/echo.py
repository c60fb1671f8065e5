"""What each child runs: it talks to the clients whose sockets it is handed. It never opens a port."""

import socket
import threading

from relieve_py import ipc


def serve(connection: socket.socket) -> None:
    """Called: send back each line with this child's name before it, until the client has enough."""
    with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            stream.write(f"{ipc.name}: {line}")
            stream.flush()


@ipc.on("connection")
def connected(connection: socket.socket) -> None:
    """Told by an event: as above, but on a thread, so that this child can talk to many clients at a time."""
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
