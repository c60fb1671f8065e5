"""Questions of a child can be asked everywhere, also by what interrupts the asking of another."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

from relieve_py.child.asking import Questions


def test_a_signal_handler_may_ask_in_the_middle_of_another_question() -> None:
    questions: Any = Questions()
    asked: list[int] = []

    def interrupted() -> Iterator[int]:
        questions._numbers = itertools.count(2)
        asked.append(questions.ask()[0])  # as the handler does
        yield 1

    questions._numbers = interrupted()
    thread = threading.Thread(target=lambda: asked.append(questions.ask()[0]), daemon=True)
    thread.start()
    thread.join(10)
    assert asked == [2, 1]
