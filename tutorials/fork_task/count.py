"""What the child runs: a program that counts the words of each file it is given."""

import sys
from pathlib import Path

from relieve_py import ipc

for argument in sys.argv[1:]:
    path = Path(argument)
    words = path.read_text(encoding="utf-8").split()
    ipc.send("counted", path.name, len(words))
