"""A build in stages: fetch a real package, parse and compile it on all cores, then link, test, sign and upload it.

Run it with: python tutorials/build_pipeline/example.py
"""

import email
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from relieve_py import CallableTask, CloudWorker, QueueWorker, ScriptTask, current_event

HERE = Path(__file__).parent
STEPS = ("link", "smoke-test", "sign", "upload")


def fetch(folder: Path) -> list[Path]:
    """The first stage needs no child: copy a package of the standard library, and add a file that is broken."""
    source = folder / "source" / "app"
    shutil.copytree(Path(email.__file__).parent, source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "unfinished.py").write_text("def later(:\n", encoding="utf-8")
    return sorted(source.rglob("*.py"))


def compile_all(folder: Path, sources: list[Path]) -> list[Path]:
    """Every file is a call. The ones that do not compile are returned, and stop no other."""
    stages: Counter[str] = Counter()
    failed, statements = [], 0
    jobs = [(path, folder / "built" / path.relative_to(folder / "source").with_suffix(".pyc")) for path in sources]
    with CloudWorker(CallableTask(HERE / "compiler.py"), size=3, retries=1) as worker:
        worker.on("stage.*", lambda file: stages.update([current_event().name]))
        results = worker.map("compile_file", jobs, return_exceptions=True)
        for source, result in zip(sources, results, strict=True):
            if isinstance(result, SyntaxError):
                print(f"  {source.name}, line {result.lineno}: {result.msg}")
                failed.append(source)
            else:
                statements += result[1]
    print(f"  {len(sources) - len(failed)} of {len(sources)} files, {statements} statements")
    print(f"  progress: {stages['stage.parsed']} parsed, {stages['stage.compiled']} compiled")
    return failed


def package(folder: Path) -> bool:
    """Each step is a program that runs to its end; a step that fails ends the line."""
    tasks = [ScriptTask(HERE / "package.py", name=step, args=(step, folder)) for step in STEPS]
    told: dict[str, str] = {}
    queue = QueueWorker(*tasks)  # one at a time, in order
    queue.on("step.*", lambda step, text: told.update({step: text}))
    for step in STEPS:
        (exit,) = queue.run(step).result()
        print(f"  {step}: {told.get(step)} ({exit.describe()})")
        if not exit.ok:
            return False
    return True


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("fetch")
        sources = fetch(folder)
        print("compile")
        failed = compile_all(folder, sources)
        print("package")
        shipped = package(folder)
        print("report")
        print("  left out:", *[path.name for path in failed])
        print("  the archive is there:", (folder / "app.zip").exists())
        print("  shipped:", shipped)


if __name__ == "__main__":
    main()
