"""Where the processors' time of a round trip goes: which function ran when a timer of that time expired.

``python -m benchmarks.suite.sampling CALLS FILE`` writes, for parent and child, how often each function of the main
thread was met. What a function does in C (a system call, pickle) counts as its own.
"""

from __future__ import annotations

import signal
from collections import Counter
from types import FrameType

EVERY = 0.001
"""Seconds of processor time between two looks: more looks would change what is looked at."""
met: Counter[str] = Counter()


def begin() -> None:
    """From now on."""
    met.clear()
    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)


def end() -> dict[str, int]:
    """How often each function was met until now."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    return dict(met)


def look(number: int, frame: FrameType | None) -> None:
    """Note the function that runs."""
    if frame is not None:
        met[f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"] += 1


def main() -> None:
    """Sample both sides in turn, so that neither slows the other."""
    import json
    import sys

    from relieve_py import CallableTask

    calls = int(sys.argv[1])
    with CallableTask(__file__) as task:
        get = task.get

        def trips() -> None:
            for number in range(calls):
                assert get("same", number).result() == number

        trips()
        begin()
        trips()
        parent = end()
        get("begin").result()
        trips()
        child = get("end").result()
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump({"parent": parent, "child": child}, file)


def same(value: object) -> object:
    """What was given."""
    return value


if __name__ == "__main__":
    main()
