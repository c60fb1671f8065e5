"""Several children under one roof: they are started, told and heard together, and one comes later.

Run it with: python tutorials/worker/example.py
"""

import queue
from pathlib import Path

from relieve_py import ScriptTask, Worker, current_event

SHELF = Path(__file__).with_name("shelf.py")
answers: queue.Queue[tuple[str, bool]] = queue.Queue()


def heard(text: str, found: bool) -> None:
    """A listener of the worker: whichever child spoke, ``current_event()`` knows which it was."""
    answers.put((current_event().source.name, found))


def shelf(package: str) -> ScriptTask:
    return ScriptTask(SHELF, name=package, args=(package,), ready="call")


def search(worker: Worker, text: str) -> None:
    worker.broadcast("search", text).result()
    found = dict(answers.get(timeout=10) for _ in worker)
    print(f"{text!r}:", ", ".join(f"{name} {'yes' if found[name] else 'no'}" for name in worker.tasks))


def main() -> None:
    with Worker(shelf("json"), shelf("email"), shelf("logging")) as worker:
        worker.on("found", heard)
        search(worker, "JSONDecodeError")
        search(worker, "message_from_bytes")

        worker.add(shelf("sqlite3"))  # the listener reaches it too
        worker.task("sqlite3").start().result()
        search(worker, "import")

        worker.remove("email").result()
        print("left:", ", ".join(worker.tasks))
    print("exits:", {task.name: task.exit.code for task in worker if task.exit})


if __name__ == "__main__":
    main()
