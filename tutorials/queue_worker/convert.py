"""What each child runs: it converts one CSV file to JSON and ends. Its exit code says whether that went well."""

import csv
import json
import sys
from pathlib import Path

from relieve_py import ipc

source, target = map(Path, sys.argv[1:])
with source.open(newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
for number, row in enumerate(rows, start=2):
    if None in row.values() or None in row:
        ipc.send("broken", source.name, number)
        sys.exit(3)
target.write_text(json.dumps(rows, indent=2), encoding="utf-8")
ipc.send("converted", target.name, len(rows))
