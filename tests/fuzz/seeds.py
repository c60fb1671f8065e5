"""Inputs for the coverage-guided fuzzers to begin with: true frames, from which they find their way to false ones."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator

import cbor2
from bombs import BOMBS
from puppets import frame_bytes

from relieve_py.texts import pack
from relieve_py.wire import Kind

ERROR = pack(["ValueError", "text", "Traceback"])


def frames() -> Iterator[tuple[int, bytes]]:
    """A few of each kind, with a number each."""
    said = [json.dumps(["name", [1, "a"]]).encode(), cbor2.dumps(["name", [1, "a"]]), BOMBS["in a list"]]
    told = [pack(["something"]), pack(["=something", "a", "b"]), ERROR, *said]
    place = 0
    for kind in Kind:
        for payload in told:
            place += 1
            yield place % 256, frame_bytes(kind, 1 + place % 3, payload, [payload] if place % 5 == 0 else ())


def with_seeds(argv: list[str], options: list[str], inputs: Iterable[bytes]) -> list[str]:
    """The arguments for libFuzzer: these options, the caller's, and a folder of these inputs.

    It writes what it finds to the first folder that it is given, which therefore is another. When the caller names a
    file, as one that it wrote for a crash, that is all that is run.
    """
    if any(os.path.isfile(arg) for arg in argv[1:]):
        return [argv[0], *options, *argv[1:]]
    known = tempfile.mkdtemp(prefix="relieve-fuzz-seeds-")
    for place, data in enumerate(inputs):
        with open(os.path.join(known, f"seed-{place}"), "wb") as file:
            file.write(data)
    folders = [arg for arg in argv[1:] if not arg.startswith("-")] or [tempfile.mkdtemp(prefix="relieve-fuzz-found-")]
    return [argv[0], *options, *(arg for arg in argv[1:] if arg.startswith("-")), *folders, known]
