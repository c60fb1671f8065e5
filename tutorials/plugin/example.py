"""One child of three is slow. Chosen by name, the plug-in's strategy finds out and leaves it alone."""

from collections import Counter
from pathlib import Path

from relieve_py import CallableTask, CloudWorker

SCRIPT = Path(__file__).with_name("task.py")


def main() -> None:
    tasks = [CallableTask(SCRIPT, name=name, args=(name,)) for name in ("slow", "fast", "faster")]
    with CloudWorker(*tasks, strategy="peak-ewma") as worker:
        answers = Counter(worker.get("answer").result() for _ in range(30))
    for task in tasks:
        print(f"{task.name}: {answers[task.name]} calls")


if __name__ == "__main__":
    main()
