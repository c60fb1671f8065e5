"""What each child runs: it packs one folder into a .tar.gz, tells how far it is, and ends."""

import sys
import tarfile
from pathlib import Path

from relieve_py import ipc

folder, target = map(Path, sys.argv[1:])
if not folder.is_dir():
    ipc.send("refused", folder.name, "no such folder")
    sys.exit(2)

files = sorted(path for path in folder.rglob("*") if path.is_file())
part = target.with_suffix(".part")  # a child that dies leaves no archive that looks whole
with tarfile.open(part, "w:gz", compresslevel=6) as archive:
    for number, path in enumerate(files, start=1):
        archive.add(path, arcname=path.relative_to(folder.parent))
        if number % 10 == 0 or number == len(files):
            ipc.send("progress", folder.name, number, len(files))
part.rename(target)
ipc.send("packed", folder.name, len(files), sum(path.stat().st_size for path in files), target.stat().st_size)
