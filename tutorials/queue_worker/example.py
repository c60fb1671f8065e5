"""Run five programs to their end, two at a time, and see how each one ended.

Run it with: python tutorials/queue_worker/example.py
"""

import tempfile
from pathlib import Path

from relieve_py import QueueWorker, ScriptTask

CONVERT = Path(__file__).with_name("convert.py")
TABLES = {
    "apples": "sort,grams\nidared,150\ngala,130\n",
    "birds": "name,eggs\nwren,6\nswift,2\nowl,4\n",
    "cities": "name,river\nParis,Seine\nVienna\n",  # a field is missing in line 3
    "dances": "name,beats\nwaltz,3\npolka,2\n",
    "engines": "name,year\nNewcomen,1712\n",
}


def tasks_for(folder: Path) -> list[ScriptTask]:
    """One task for each table."""
    tasks = []
    for name, text in TABLES.items():
        source = folder / f"{name}.csv"
        source.write_text(text, encoding="utf-8")
        tasks.append(ScriptTask(CONVERT, name=name, args=(source, folder / f"{name}.json")))
    return tasks


def main() -> None:
    with tempfile.TemporaryDirectory() as name, QueueWorker(*tasks_for(Path(name)), concurrency=2) as queue:
        results: dict[str, str] = {}
        queue.on("converted", lambda target, rows: results.update({target: f"{rows} rows"}))
        queue.on("broken", lambda source, line: results.update({source: f"line {line} is broken"}))

        exits = queue.run().result()
        for exit in exits:  # in the order in which the tasks were added
            print(f"{exit.task:8} {'done' if exit.ok else 'FAILED'}: {exit.describe()}")
        for file, result in sorted(results.items()):
            print(f"  {file}: {result}")

        (Path(name) / "cities.csv").write_text("name,river\nParis,Seine\nVienna,Danube\n", encoding="utf-8")
        queue.concurrency = 1  # may change at any time
        (exit,) = queue.run("cities").result()
        print(f"again: {exit.task} ended with {exit.describe()}")
        print("files:", *sorted(path.name for path in Path(name).glob("*.json")))


if __name__ == "__main__":
    main()
