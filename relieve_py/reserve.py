"""The spares of one task: children that are ready beside the one that serves, so that a death is made good at once."""

from __future__ import annotations

import logging

from relieve_py.birth import Birth
from relieve_py.budget import RestartBudget
from relieve_py.errors import RelieveError, StartError
from relieve_py.host import Host
from relieve_py.lifecycle import State
from relieve_py.policies import RestartPolicy
from relieve_py.recipe import Recipe
from relieve_py.serializers import Serializer
from relieve_py.spare import Spare
from relieve_py.strands import log_later
from relieve_py.supervisor import Supervisor, Timer

LINGER = 0.05
"""Seconds from the moment that a child serves to the launch of a spare. Less: it takes processor time from the first
calls of that child; more: of deaths in a row more find no spare."""


class Reserve:
    """Has ``size`` spares while the task serves. On the I/O thread, unless it is said otherwise."""

    def __init__(
        self,
        host: Host,
        supervisor: Supervisor,
        serializer: Serializer,
        recipe: Recipe,
        policy: RestartPolicy,
        size: int,
        max_age: float | None,
    ) -> None:
        self._host = host
        self._supervisor = supervisor
        self._serializer = serializer
        self._recipe = recipe
        self._size = size
        self._max_age = max_age  # seconds
        self._spares: list[Spare] = []
        self._dismissed: list[Spare] = []  # they leave
        self._budget = RestartBudget(policy)
        self._policy = policy
        self._wanted = False  # the task serves, so there are to be some
        self._refill: Timer | None = None
        self._refresh: Timer | None = None

    def moved(self, after: State) -> None:
        """Under the lock, on any thread: the task is in that state now."""
        if not self._size:
            return
        if after is State.READY:
            self._supervisor.post(self._want)
        elif after in (State.ASLEEP, State.STOPPED, State.FAILED):
            self._supervisor.post(self._dismiss)

    def dismiss(self) -> None:
        """On any thread: there are to be none, or what is there may be out of date. There are others once the task
        serves again."""
        if self._size:
            self._supervisor.post(self._dismiss)

    def take(self) -> Spare | None:
        """One that is ready, if there is one; it is the caller's from now on."""
        for spare in self._spares:
            if spare.ready:
                self._spares.remove(spare)
                return spare
        return None

    def forget(self) -> None:
        """In a process that was just forked: the children belong to the original."""
        for spare in (*self._spares, *self._dismissed):
            spare.forget()
        self._spares, self._dismissed = [], []

    @property
    def births(self) -> list[Birth]:
        """The children that it has, and those that leave it."""
        return [spare.birth for spare in (*self._spares, *self._dismissed) if spare.birth is not None]

    # -- how many there are ------------------------------------------------------------------------

    def _want(self) -> None:
        if self._host.life.state is State.READY:  # still
            self._wanted = True
            self._refill_in(LINGER)

    def _refill_in(self, seconds: float) -> None:
        if self._missing():
            self._refill = self._supervisor.at(self._supervisor.now() + seconds, self._fill)

    def _missing(self) -> bool:
        """True when something has to be done for there to be as many as there should be."""
        return self._wanted and self._refill is None and len(self._spares) < self._size

    def _fill(self) -> None:
        self._refill = None
        while self._missing() and self._host.life.accepts:  # it may be about to stop
            self._add()

    def _add(self) -> None:
        spare = Spare(self._supervisor, self._serializer, self._host.life.name, self._settled)
        spare.ended = self._ended
        self._spares.append(spare)
        try:
            spare.launch(self._recipe, self._host.life.start_timeout)
        except Exception as error:  # a launcher is a plug-in
            spare.error = StartError(f"it could not be launched: {error}", task=self._host.life.name)
            self._settled(spare)
        if self._max_age is not None and self._refresh is None:
            self._refresh = self._supervisor.at(self._supervisor.now() + self._max_age, self._replace_all)

    def _replace_all(self) -> None:
        """They have come to the age at which the child that serves is replaced, too."""
        self._refresh = None
        self._dismiss_all()
        self._refill_in(0.0)

    def _dismiss(self) -> None:
        self._wanted = False
        self._budget.start_anew()
        for timer in (self._refill, self._refresh):
            if timer is not None:
                timer.cancel()
        self._refill = self._refresh = None
        self._dismiss_all()

    def _dismiss_all(self) -> None:
        spares, self._spares = self._spares, []
        self._dismissed += spares
        for spare in spares:
            spare.dismiss(self._host.life.kill_timeout)

    # -- what becomes of them ----------------------------------------------------------------------

    def _settled(self, spare: Spare) -> None:
        """It is ready, or never will be."""
        if spare.error is not None and spare in self._spares:
            self._lose(spare, spare.error)

    def _ended(self, spare: Spare) -> None:
        """There is no child of it any more."""
        if spare in self._spares:
            self._lose(spare, None)
        elif spare in self._dismissed:
            self._dismissed.remove(spare)

    def _lose(self, spare: Spare, error: RelieveError | None) -> None:
        """Have another in its place; if many are lost, later and later, as it is with a child that serves."""
        self._spares.remove(spare)
        spare.discard()
        why = "its child has ended" if error is None else str(error)
        log_later(logging.WARNING, "task %r has lost a spare: %s", self._host.life.name, why)
        self._budget.count_spare(self._supervisor.now())
        spent = self._budget.spent() is not None
        delay = self._policy.within if spent else self._budget.delay(False, self._supervisor.chance())
        self._refill_in(max(LINGER, delay))
