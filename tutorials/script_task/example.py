"""Keep a web server running: it is started, crashed, restarted without anyone's help, and stopped.

Run it with: python tutorials/script_task/example.py
"""

import http.client
import queue
from pathlib import Path

from relieve_py import ScriptTask

HERE = Path(__file__).parent
ports: queue.Queue[int] = queue.Queue()  # each server that comes up puts its port here


def fetch(port: int, path: str) -> str:
    """What a browser would say to that path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return f"{answer.status} {answer.reason}, {len(answer.read())} bytes"
    except ConnectionError as error:
        return type(error).__name__
    finally:
        connection.close()


def main() -> None:
    task = ScriptTask(HERE / "server.py", name="web", restart=True, ready="call")
    task.on("listening", ports.put)
    task.on("exit", lambda exit: print(f"task {exit.task}: {exit.describe()}"))
    task.on("restart", lambda event: print(f"task {event.task}: restart number {event.restarts}"))

    task.start().result()
    port = ports.get(timeout=10)
    print("a page that is there:", fetch(port, "/page.html"))
    print("a page that is not:", fetch(port, "/nothing.html"))
    outcome = fetch(port, "/crash")

    port = ports.get(timeout=10)  # of the next server
    print("a page that kills:", outcome)
    print("after the crash:", fetch(port, "/page.html"))
    print("restarts so far:", task.restarts)
    task.stop().result()
    print("the task is", task.state.value)


if __name__ == "__main__":
    main()
