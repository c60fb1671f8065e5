"""What each child runs: it reads one package of the standard library once, and then answers searches."""

import sys
from importlib import import_module
from pathlib import Path

from relieve_py import ipc

package = import_module(sys.argv[1])
sources = [path.read_text(encoding="utf-8") for path in Path(package.__path__[0]).glob("*.py")]


@ipc.on("search")
def search(text: str) -> None:
    """An event of the parent: it is answered with an event."""
    ipc.send("found", text, any(text in source for source in sources))


ipc.ready()
