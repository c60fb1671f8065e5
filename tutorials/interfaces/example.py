"""Give a task a journal and a fuel gauge, without a line about either in the code that uses the task.

Run it with: python tutorials/interfaces/example.py
"""

import json
import tempfile
from pathlib import Path

from gauges import FuelGauge, Journal

from relieve_py import CallableTask, TaskDied

TURBINE = Path(__file__).with_name("turbine.py")


def use(task: CallableTask) -> None:
    """What the program is about; it knows nothing of interfaces."""
    print("turned", task.get("turn", 3).result(), "times")
    try:
        task.get("jam").result()
    except TaskDied as error:
        print("jammed, with exit code", error.exit_code)
    print("turned", task.get("turn", 4).result(), "times")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "journal.jsonl"))
        gauge = FuelGauge(litres=14)
        task = CallableTask(TURBINE, name="turbine", interfaces=[journal, gauge])
        use(task)
        task.wait().result()  # the gauge stops it
        print(f"the task is {task.state.value}, with {gauge.litres} litres left")
        for line in journal.path.read_text(encoding="utf-8").splitlines():
            print(" ", *json.loads(line).values())


if __name__ == "__main__":
    main()
