"""A fuzzer guided by coverage (atheris) for a live parent: the bytes say what its hostile child does.

Not collected by pytest. ``tox -e fuzz`` runs it; so does ``python tests/fuzz/atheris_parent.py``, with the options of
libFuzzer (``-max_total_time=600``) and folders of inputs to begin with.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

import atheris

with atheris.instrument_imports(include=["relieve_py"]):
    from relieve_py.wire import HEADER, Kind

from bombs import nothing_unpickled
from eyes import no_complaints, no_descriptor_lost
from plays import Bystander, Play, run
from puppets import Action, Begin, Send, Shut, frame_bytes
from seeds import frames, with_seeds

ASKED = ("get", "call", "stream", "send", "options")
MOST_ACTIONS = 12


def play_of(data: bytes) -> Play:
    """What the bytes say."""
    given = atheris.FuzzedDataProvider(data)
    first = [ASKED[given.ConsumeIntInRange(0, len(ASKED) - 1)] for _ in range(given.ConsumeIntInRange(1, 3))]
    code = given.ConsumeIntInRange(-1, 2)
    flags = given.ConsumeIntInRange(0, 7)
    actions: list[Action] = []
    while given.remaining_bytes() and len(actions) < MOST_ACTIONS:
        actions.append(_action(given))
    return Play(
        serializer="cbor" if flags & 1 else "json",
        first=first,
        ready_first=not flags & 2,
        reads_itself=bool(flags & 4),
        actions=actions,
        code=None if code < 0 else code,
    )


def _action(given: atheris.FuzzedDataProvider) -> Action:
    match given.ConsumeIntInRange(0, 9):
        case 0:
            return Begin(given.ConsumeIntInRange(0, 2**64 - 1))
        case 1:
            return Shut(given.ConsumeIntInRange(0, 2))
        case 2:
            return Send(given.ConsumeBytes(given.ConsumeIntInRange(0, 200)), given.ConsumeIntInRange(0, 3))
        case 3:  # a header that lies
            fields = [given.ConsumeIntInRange(0, 255) for _ in range(4)]
            sizes = [given.ConsumeIntInRange(0, 2**bits - 1) for bits in (32, 64, 64)]
            return Send(HEADER.pack(*fields, *sizes))
    kind = given.ConsumeIntInRange(0, max(Kind) + 1)
    number = given.ConsumeIntInRange(0, 4)
    nfds = given.ConsumeIntInRange(0, 2)
    payload = given.ConsumeBytes(given.ConsumeIntInRange(0, 300))
    buffers = [given.ConsumeBytes(30)] * given.ConsumeIntInRange(0, 2)
    return Send(frame_bytes(kind, number, payload, buffers, nfds), nfds)


def one_input(data: bytes) -> None:
    """Every call ends, an honest child follows, and nothing else is touched."""
    with no_complaints(), no_descriptor_lost(), nothing_unpickled():
        run(play_of(data))
        beside().check()
    assert not raised, raised


raised: list[str] = []
_bystander: list[Bystander] = []


def beside() -> Bystander:
    """The task beside, made at first."""
    if not _bystander:
        _bystander.append(Bystander())
    return _bystander[0]


def inputs() -> Iterable[bytes]:
    """To begin with: frames behind what chooses that they are sent as they are."""
    for _, data in frames():
        yield data + bytes(20)


if __name__ == "__main__":
    threading.excepthook = lambda args: raised.append(repr(args.exc_value))
    beside()
    run(Play(serializer="json", actions=()))  # what is made once is made now
    limits = ["-timeout=60", "-rss_limit_mb=1500", "-malloc_limit_mb=200", "-max_len=2048"]
    atheris.Setup(with_seeds(sys.argv, limits, inputs()), one_input)
    atheris.Fuzz()
