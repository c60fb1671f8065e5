"""What a task is made of: its options, its voice, its slot, and how its script is found."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from relieve_py import farewell, plugins
from relieve_py.byvalue import MAINS
from relieve_py.child.boot import Objects, Plan, encode_objects
from relieve_py.cpus import thread_limits
from relieve_py.health import Sampler
from relieve_py.launchers.base import Launcher
from relieve_py.lifecycle import Lifecycle
from relieve_py.options import TaskOptions
from relieve_py.outlet import Tail
from relieve_py.policies import NEVER, RestartPolicy, restart_policy
from relieve_py.preload import Preload
from relieve_py.recipe import Recipe
from relieve_py.serializers import Payload, Serializer
from relieve_py.slot import Slot
from relieve_py.supervisor import shared
from relieve_py.surroundings import Surroundings
from relieve_py.upkeep import Upkeep
from relieve_py.voice import Voice

_counter = itertools.count(1)

Target = str | os.PathLike[str] | Callable[..., Any] | object


class Core:
    """What a task is made of: its options, its voice, its slot."""

    def __init__(
        self, target: Target, options: TaskOptions, program: bool, default: RestartPolicy, startable: bool
    ) -> None:
        _refuse_what_does_not_fit(options, program, startable)
        kind, script = kind_of(target)
        self.target = target
        self.found = kind, script
        self.address: Any = script if kind != "object" else id(target)  # equal for tasks of one script
        self.options = options
        self.script = _stem(kind, script)
        self.name = options.name or f"{self.script}-{next(_counter)}"
        self.voice = Voice(self.name)
        self.sampler = Sampler()
        self.tail = Tail(options.output.last)
        self.serializer: Serializer = plugins.serializer(options.serializer)
        self.extra_containers: list[Any] = []
        self.supervisor = shared()
        self._payload: Payload | None = None
        launcher = plugins.launcher(options.launcher)
        surroundings = self._surroundings(_preload(options, launcher, kind, target, script))
        recipe = Recipe(launcher, self._plan(program), self._objects, surroundings)
        policy = restart_policy(options.restart, default) if startable else NEVER
        self.slot = self._slot(recipe, policy, startable)
        farewell.at_exit()
        warm = getattr(launcher, "warm", None)
        if warm is not None and startable:
            warm(surroundings.preload, surroundings.environment)

    def _plan(self, program: bool) -> Plan:
        (kind, script), options = self.found, self.options
        return Plan(
            name=self.name,
            kind=kind,
            script=script,
            program=program,
            ready_on_call=options.ready == "call",
            cwd=os.path.abspath(options.cwd) if options.cwd is not None else os.getcwd(),
            sys_path=_sys_path(),
            concurrency=options.concurrency,
            limits=options.limits.of_the_system,
            dump_stacks=options.dump_stacks,
            line_buffered="stdout" in options.output.targets,
            log_level=options.log,
        )

    def _surroundings(self, preload: Preload | None) -> Surroundings:
        options = self.options
        return Surroundings(
            env=options.env,
            threads=options.threads,
            output=options.output,
            tail=self.tail,
            script=self.script,
            preload=preload,
            lend=options.limits.address_space is None and options.limits.open_files is None,
        )

    def _slot(self, recipe: Recipe, policy: RestartPolicy, startable: bool) -> Slot:
        options, chance = self.options, self.supervisor.chance
        life = Lifecycle(
            self.name,
            policy,
            options.start_timeout,
            options.kill_timeout,
            chance,
            options.heartbeat,
        )
        return Slot(
            self.voice,
            self.supervisor,
            life,
            recipe,
            self.serializer,
            self.voice.emitter.strand,
            startable,
            Upkeep(options.recycle, chance, options.busy_timeout),
            options.limits,
            options.spares,
        )

    def _objects(self) -> Payload:
        """The user's objects for the child, encoded once. Raises EncodeError."""
        if self._payload is None:
            self._payload = encode_objects(
                Objects(
                    target=self.target if self.found[0] == "object" else None,
                    args=self.options.args,
                    containers=(*self.extra_containers, *self.options.containers),
                    serializer=self.serializer,
                )
            )
        return self._payload

    def encode_now(self) -> None:
        """Encode the start arguments on this thread, so that what cannot be sent is told here."""
        self._objects()


def _refuse_what_does_not_fit(options: TaskOptions, program: bool, startable: bool) -> None:
    if program and options.recycle.for_calls_only:
        raise ValueError(
            f"recycle: {' and '.join(options.recycle.for_calls_only)} count calls, and a program serves none"
        )
    if options.spares and (program or not startable):
        raise ValueError("spares: a program would run in each of them; they are for a CallableTask")


def kind_of(target: Target) -> tuple[str, str]:
    """How a script or object is found: ``("path" | "module" | "object", its name)``. Raises TypeError."""
    if isinstance(target, os.PathLike):
        return "path", os.path.abspath(os.fspath(target))
    if isinstance(target, str):
        if not target:
            raise TypeError("a script is a path, a dotted module name, or an object; '' is none of these")
        looks_like_path = target.endswith(".py") or os.sep in target or os.path.exists(target)
        return ("path", os.path.abspath(target)) if looks_like_path else ("module", target)
    if target is None or isinstance(target, (int, float, bytes)):
        raise TypeError(f"a script is a path, a dotted module name, a class, an object or a function, not {target!r}")
    return "object", getattr(target, "__name__", None) or type(target).__name__


def _stem(kind: str, script: str) -> str:
    if kind == "path":
        return os.path.splitext(os.path.basename(script))[0]
    return script.rpartition(".")[2]


def _sys_path() -> list[str]:
    """This process's ``sys.path``, where relative entries mean the same in a child with another working directory."""
    return [os.path.abspath(entry) if entry == "" or not os.path.isabs(entry) else entry for entry in sys.path]


def _preload(options: TaskOptions, launcher: Launcher, kind: str, target: Target, script: str) -> Preload | None:
    """What the children share. Raises ValueError for a launcher whose children share nothing."""
    if not options.preload:
        return None
    if not getattr(launcher, "preloads", False):
        raise ValueError(f"preload needs launcher='forkserver': children of {launcher.name!r} share no imports")
    wanted: tuple[str, ...] = () if isinstance(options.preload, bool) else options.preload
    return Preload(
        modules=tuple(os.path.abspath(each) if each.endswith(".py") else each for each in wanted),
        script=_whose_imports(kind, target, script) if options.preload is True else None,
        sys_path=tuple(_sys_path()),
        cwd=os.path.abspath(options.cwd) if options.cwd is not None else os.getcwd(),
        env=tuple(sorted({**thread_limits(options.threads), **options.env}.items())),
    )


def _whose_imports(kind: str, target: Target, script: str) -> tuple[str, str] | None:
    """Where the task's script, or the object that it runs, was written; None when that is nowhere."""
    if kind != "object":
        return kind, script
    module = getattr(target, "__module__", None) or type(target).__module__
    if module not in MAINS:
        return "module", module
    path = getattr(sys.modules["__main__"], "__file__", None)
    return ("path", os.path.abspath(path)) if path is not None else None
