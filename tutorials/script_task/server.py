"""What the child runs: a small web server, which serves this folder on a port that the system chooses."""

import http.server
import os
import signal
from functools import partial
from pathlib import Path

from relieve_py import ipc


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and dies of one request, so that there is something to recover from."""

    def do_GET(self) -> None:
        if self.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        ipc.send("request", self.path)


def stop() -> None:
    print("server: good bye", flush=True)


handler = partial(Handler, directory=str(Path(__file__).parent))
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    ipc.send("listening", server.server_port)
    ipc.ready()
    server.serve_forever()
