"""What the parent tells a new child in its first frame: plain data, and the user's objects, which are decoded once the
child has the parent's ``sys.path``."""

from __future__ import annotations

import pickle
from typing import Any

from relieve_py.serializers import Payload, PickleSerializer, Serializer, encode
from relieve_py.wire import Frame, Kind, check_size


class Plan:
    """The plain part."""

    __slots__ = (
        "concurrency",
        "cwd",
        "dump_stacks",
        "kind",
        "limits",
        "line_buffered",
        "log_level",
        "name",
        "program",
        "ready_on_call",
        "script",
        "sys_path",
    )

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        script: str,
        program: bool,
        ready_on_call: bool,
        cwd: str | None,
        sys_path: list[str],
        concurrency: int,
        limits: dict[str, int],
        dump_stacks: bool,
        line_buffered: bool = False,
        log_level: int | None = None,
    ) -> None:
        self.name = name
        self.kind = kind  # "path", "module" or "object"
        self.script = script  # a path, a dotted name, or how the object is called
        self.program = program  # run it as a program, rather than serve its functions
        self.ready_on_call = ready_on_call  # ready when it calls ipc.ready()
        self.cwd = cwd
        self.sys_path = sys_path
        self.concurrency = concurrency  # calls at once; one runs in the main thread
        self.limits = limits  # names of ``resource`` and their values
        self.dump_stacks = dump_stacks  # when asked by signal
        self.line_buffered = line_buffered  # write each line of standard output when it is printed
        self.log_level = log_level  # of log records that the parent gets


class Objects:
    """The user's part."""

    __slots__ = ("args", "containers", "serializer", "target")

    def __init__(
        self, *, target: Any, args: tuple[Any, ...], containers: tuple[Any, ...], serializer: Serializer
    ) -> None:
        self.target = target  # the class, object or function, when there is no script
        self.args = args
        self.containers = containers
        self.serializer = serializer


def encode_objects(objects: Objects) -> Payload:
    """Raises EncodeError that names the part that cannot be sent. A child always trusts its parent, so this is
    pickle."""
    parts = objects.target, objects.args, objects.containers, objects.serializer
    names = {"target": parts[0], "args": parts[1], "containers": parts[2], "serializer": parts[3]}
    payload = encode(PickleSerializer(), parts, **names)
    fds = payload.descriptors.fds if payload.descriptors is not None else ()
    check_size(len(payload), len(payload.buffers) + 1, len(fds))
    return payload


def boot_frame(plan: Plan, objects: Payload) -> Frame:
    """The frame that tells both."""
    plain = pickle.dumps([getattr(plan, name) for name in Plan.__slots__], 5)
    fds = objects.descriptors.fds if objects.descriptors is not None else ()
    return Frame(Kind.BOOT, 0, plain, (objects.data, *objects.buffers), fds, 0, objects.descriptors)


def read_plan(frame: Frame) -> Plan:
    """The plain part of a BOOT frame."""
    plan = Plan.__new__(Plan)
    for name, value in zip(Plan.__slots__, pickle.loads(frame.payload), strict=True):
        setattr(plan, name, value)
    return plan


def read_objects(frame: Frame) -> Objects:
    """The user's part of a BOOT frame. Runs the user's code; raises whatever that raises."""
    payload = Payload(frame.buffers[0], frame.buffers[1:], Payload.of_frame(frame).descriptors)
    target, args, containers, serializer = PickleSerializer().decode(payload)
    return Objects(target=target, args=args, containers=containers, serializer=serializer)
