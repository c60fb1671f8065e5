"""What a child does at its start, done once before it has a parent to do it for: so it is fast when it counts.

A forked process copies a page of memory when it first writes to it, and Python writes to all that it touches. Most of
the time of a start goes there, and whoever waits for a task need not pay for it.
"""

from __future__ import annotations

import _thread
import functools
import os
import socket
import sys

from relieve_py import wire
from relieve_py.blackbox import BYTES
from relieve_py.channel import pair
from relieve_py.child import chunk
from relieve_py.child.boot import Objects, Plan, boot_frame, encode_objects
from relieve_py.child.lastwords import LastWords
from relieve_py.child.runtime import Child
from relieve_py.serializers import Payload, PickleSerializer, encode
from relieve_py.wire import Kind

_AT_HAND = (chunk,)
"""What a child imports when it needs it first, so that a new interpreter begins sooner: one that is forked has it."""
_NAME = "_rehearsed"
_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{_NAME}.py")


class _Rehearsing(Child):
    """Stops after its only call."""

    def answer(self, kind: Kind, number: int, payload: Payload | None) -> None:
        super().answer(kind, number, payload)
        self.inbox.stopping = kind == Kind.RESULT


def rehearse() -> bytes:
    """Live a whole life: boot, a script, a call, the end. What this process is stays as it was; what was answered is
    returned. On Linux; elsewhere nothing happens."""
    if not hasattr(os, "memfd_create"):
        return b""
    page = os.memfd_create("relieve_py")
    path, argv = list(sys.path), sys.argv
    try:
        os.ftruncate(page, BYTES)
        ours, theirs = pair()
        ours.send(part_of_the_parent())
        ours.shutdown(socket.SHUT_WR)  # should it wait for more, it ends, rather than wait for ever
        child = _Rehearsing(theirs, LastWords(page))
        _thread.start_new_thread(int, ())  # whose stack is kept for the next
        child.act()
        answers = ours.recv(1 << 16)
        child.retire()
        ours.close()
    finally:
        os.close(page)
        sys.path[:], sys.argv = path, argv
        sys.modules.pop(_NAME, None)
    return answers


@functools.cache
def part_of_the_parent() -> bytes:
    """What the parent says in it, which is made once, before the processes that rehearse."""
    plan = Plan(
        name="rehearsal",
        kind="path",
        script=_SCRIPT,
        program=False,
        ready_on_call=False,
        cwd=None,
        sys_path=sys.path,
        concurrency=1,
        limits={},
        dump_stacks=True,
    )
    objects = Objects(target=None, args=(), containers=(), serializer=PickleSerializer())
    arguments = encode(PickleSerializer(), ("nothing", 1, 0.0, (), {}))
    payload = Payload(arguments.data, arguments.buffers)
    frames = boot_frame(plan, encode_objects(objects)), payload.to_frame(Kind.CALL, 1)
    return b"".join(chunk for frame in frames for chunk in wire.encode(frame))
