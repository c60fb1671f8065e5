"""Start a child that runs at once, wrap it in a ForkTask, and hear what it finds out.

Run it with: python tutorials/fork_task/example.py
"""

from collections import Counter
from pathlib import Path

from relieve_py import ForkTask, fork, ipc

HERE = Path(__file__).parent
POEMS = [HERE / "ozymandias.txt", HERE / "tyger.txt"]


def count_letters(path: Path) -> None:
    """What the second child runs: no script of its own, just this function."""
    text = path.read_text(encoding="utf-8").lower()
    letters = Counter(letter for letter in text if letter.isalpha())
    for letter, times in letters.most_common(3):
        ipc.send("letter", letter, times)


def run_a_script() -> None:
    child = fork(HERE / "count.py", *POEMS)  # from this line on the child runs
    task = ForkTask(child)
    task.on("counted", lambda name, words: print(f"{name} has {words} words"))
    exit = task.wait().result()
    print(f"the script ended with {exit.describe()}")


def run_a_function() -> None:
    task = ForkTask(fork(count_letters, POEMS[0]))
    task.on("letter", lambda letter, times: print(f"the letter {letter!r} is there {times} times"))
    exit = task.wait().result()
    print(f"the function ended with {exit.describe()}")


if __name__ == "__main__":
    run_a_script()
    run_a_function()
