"""What a task tells, and the task itself as replies give it."""

from __future__ import annotations

import threading

from relieve_py import CallableTask
from relieve_py.voice import Voice


def test_a_task_is_known_before_what_was_kept_for_it_is_told() -> None:
    begun, go_on = threading.Event(), threading.Event()
    voice, task = Voice("late"), CallableTask(len)
    voice.emitter.strand.submit(begun.set)
    voice.emitter.strand.submit(go_on.wait, 20)
    assert begun.wait(20)
    voice.take(task, True)  # on the strand it is taken when the strand is free
    assert voice.face is task
    go_on.set()
