"""Share many calls among several children; kill one in the middle, and lose nothing.

Run it with: python tutorials/cloud_worker/example.py
"""

import os
import signal
from collections import Counter
from pathlib import Path

from relieve_py import CallableTask, CloudWorker

MEASURE = Path(__file__).with_name("measure.py")
MODULES = sorted(Path(os.__file__).parent.glob("*.py"))[:120]  # the first modules of the standard library


def survey(worker: CloudWorker) -> None:
    """One call for each file; the results come in the order of the files."""
    done_by: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for number, (file, task, count) in enumerate(worker.map("measure", MODULES), start=1):
        done_by[task] += 1
        functions[file] = count
        if number == 40:
            victim = next(iter(worker))
            victim.send_signal(signal.SIGKILL)
            print(f"after {number} files: task {victim.name} was killed")
    print(f"measured {len(functions)} of {len(MODULES)} files, each once: {sum(done_by.values()) == len(MODULES)}")
    print("every task had its share:", all(done_by[task.name] for task in worker))
    ((file, count),) = functions.most_common(1)
    print(f"the most functions: {file} has {count}")


def main() -> None:
    with CloudWorker(CallableTask(MEASURE), size=3, strategy="idle-first", retries=1) as worker:
        survey(worker)
        print("restarts:", worker.stats().restarts)
        worker.resize(4).result()
        outcomes = worker.broadcast_get("python").result()
        for outcome in outcomes:
            print(f"{outcome.task} is Python {outcome.result()}")


if __name__ == "__main__":
    main()
