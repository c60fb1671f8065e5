"""One piece of a run: one work by one peer, in an interpreter of its own, so that nothing of another is in it.

``python -m benchmarks.suite.piece ORDER FILE``: the order and the answer are JSON. It imports little at the top, for
children that start by ``spawn`` import it again.
"""

import json
import os
import signal
import sys


def main() -> None:
    """Do what was ordered, and write what came of it."""
    order = json.loads(sys.argv[1])
    signal.alarm(order["seconds"])  # should whoever set the deadline be gone by then
    from benchmarks.suite.catalogue import WORKS
    from benchmarks.suite.peers import peer

    answer = {name: WORKS[name].run(peer(order["peer"]), sizes) for name, sizes in order["works"].items()}
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(answer, file)
    if any(value is None for figures in answer.values() for value in figures.values()):
        os._exit(0)  # a pool that never answered again would not end either


if __name__ == "__main__":
    main()
