"""The reload of one task: its next child is made ready beside the one that serves, which leaves only then."""

from __future__ import annotations

import functools
from typing import Protocol

from relieve_py.birth import Birth
from relieve_py.endings import Owner
from relieve_py.errors import RelieveError, StartError, copy_of
from relieve_py.host import Deeds, Host
from relieve_py.lifecycle import State
from relieve_py.line import Line
from relieve_py.recipe import Recipe
from relieve_py.replies import Reply
from relieve_py.serializers import Serializer
from relieve_py.spare import Spare
from relieve_py.supervisor import Supervisor


class Household(Host, Protocol):
    """The slot whose child is to be followed by another."""

    def await_start(self, waiters: list[Reply]) -> None:
        """Under the lock: these are answered when the next child is ready."""
        ...


class Reload:
    """Has one spare at most, however many ask. On the I/O thread, unless it is said otherwise."""

    def __init__(
        self, host: Household, owner: Owner, line: Line, supervisor: Supervisor, serializer: Serializer, recipe: Recipe
    ) -> None:
        self._host = host
        self._owner = owner
        self._line = line
        self._supervisor = supervisor
        self._serializer = serializer
        self._recipe = recipe
        self._spare: Spare | None = None
        self._waiters: list[Reply] = []  # of those who wait for the spare; under the lock
        self._follows = 0  # the generation that it is to follow

    def ask(self, reply: Reply) -> None:
        """On any thread: answer this when a new child serves."""
        with self._line.lock:
            self._waiters.append(reply)
        self._supervisor.post(self._prepare)

    def refuse(self) -> list[Reply]:
        """Under the lock, on any thread: there will be no next child. Gives those who waited for one."""
        waiters, self._waiters = self._waiters, []
        if self._spare is not None:
            self._supervisor.post(self._discard)
        return waiters

    def take(self) -> Spare | None:
        """The spare, if it is ready; it is the caller's from now on."""
        if self._spare is None or not self._spare.ready:
            return None
        spare, self._spare = self._spare, None
        return spare

    @property
    def coming(self) -> Birth | None:
        """The next child, while there is one beside that which serves."""
        return self._spare.birth if self._spare is not None else None

    def forget(self) -> None:
        """In a process that was just forked: the child belongs to the original."""
        if self._spare is not None:
            self._spare.forget()

    def _prepare(self) -> None:
        life, after = self._host.life, Deeds()
        with self._line.lock:
            if life.state is not State.READY:  # since ask() was called
                self._restart_instead(after)
            wanted = self._waiters and (self._spare is None or self._spare.over)
            if wanted:
                self._follows = life.generation
        self._host.do(after)
        if not wanted:
            return
        spare = self._spare = Spare(self._supervisor, self._serializer, life.name, self._settled)
        try:
            spare.launch(self._recipe, life.start_timeout)
        except Exception as error:  # a launcher is a plug-in
            spare.error = StartError(f"task {life.name!r} could not be launched: {error}", task=life.name)
            spare.error.__cause__ = error
            spare.discard()
            self._settled(spare)

    def _restart_instead(self, after: Deeds) -> None:
        """Under the lock: who waits for a spare gets the child that comes next, if one does."""
        waiters, self._waiters = self._waiters, []
        coming = self._host.life.state is State.STARTING or not waiters
        try:
            instructions = [] if coming else self._host.life.restart(self._supervisor.now())
        except RelieveError as error:
            after += [functools.partial(waiter.fail, copy_of(error)) for waiter in waiters]
        else:
            self._host.await_start(waiters)
            self._host.carry_out(instructions, after)

    def _settled(self, spare: Spare) -> None:
        """It is ready, or never will be."""
        if spare is not self._spare:  # it was discarded before
            return
        life, error, after = self._host.life, spare.error, Deeds()
        with self._line.lock:
            waiters, self._waiters = self._waiters, []
            followed = life.generation != self._follows  # the child died: who follows it is new, too
            if error is not None:
                after += [functools.partial(waiter.fail, copy_of(error)) for waiter in waiters]
            elif not life.accepts:
                after += [functools.partial(waiter.fail, life.refusal()) for waiter in waiters]
            elif followed and life.state is State.READY:
                after += [functools.partial(waiter.settle, self._owner.face) for waiter in waiters]
            else:
                self._host.await_start(waiters)
                turn = life.restart if life.state is State.READY else life.wake  # it may have gone idle
                self._host.carry_out(turn(self._supervisor.now()), after)
        if error is not None or followed or not life.accepts:
            self._discard()
        self._host.do(after)

    def _discard(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.discard()
