"""Ask a child questions, tell it to do things, read a stream from it, and see what an error in it looks like.

Run it with: python tutorials/callable_task/example.py
"""

import asyncio
import signal
import threading
from pathlib import Path

from relieve_py import CallableTask

HERE = Path(__file__).parent
LICENSE = HERE.parent.parent / "LICENSE"


def ask(task: CallableTask) -> None:
    print("'the' occurs", task.get("count", "the").result(), "times")
    print("'software' occurs", task.remote.count("software").result(), "times")
    print("the longest words:", *task.stream("longest", 3))


def tell(task: CallableTask) -> None:
    done = threading.Event()
    task.on("indexed", lambda letter, number: print(f"{number} words begin with {letter!r}"))
    task.on("done", done.set)
    task.call("index").result()  # the child has accepted the call; what it finds comes as events
    done.wait(timeout=10)


def fail(task: CallableTask) -> None:
    try:
        task.get("share", "the", of="unicorn").result()
    except ZeroDivisionError as error:
        print("the child raised:", error)
        print("and its traceback came along:", "return count(word) / count(of)" in str(error.__cause__))


def kill(task: CallableTask) -> None:
    before = task.pid
    task.send_signal(signal.SIGKILL)
    print("after a SIGKILL 'the' still occurs", task.options(retries=1).get("count", "the").result(), "times")
    print("by another child:", task.pid != before)


async def ask_async(task: CallableTask) -> None:
    print("asked with await:", await task.get("both", "the", "software"))


def main() -> None:
    with CallableTask(HERE / "texts.py", args=(LICENSE,)) as task:
        ask(task)
        tell(task)
        fail(task)
        kill(task)
        asyncio.run(ask_async(task))


if __name__ == "__main__":
    main()
