"""Pure choosers of the task for the next call, which see tasks and calls only through two small faces.

A worker makes one instance and then calls it directly, one method at a time: ``push(task)`` when a task
joins, ``next(tasks, call)`` to choose among the candidates, ``start(task, call)`` and ``end(task, call)``
around each call (``end`` always, on failure too), ``remove(task)`` when a task leaves. What is kept of a task
is kept by its name and goes with it.
"""

from __future__ import annotations

from relieve_py.strategies.base import Candidate as Candidate
from relieve_py.strategies.base import Keyed as Keyed
from relieve_py.strategies.base import Strategy as Strategy
from relieve_py.strategies.candidates import Candidates as Candidates
from relieve_py.strategies.candidates import Nobody as Nobody
from relieve_py.strategies.filtered import Filtered as Filtered
from relieve_py.strategies.loads import IdleFirst, Random, TwoChoices
from relieve_py.strategies.measured import FewestSockets, LowestRSS
from relieve_py.strategies.measured import resident_set as resident_set
from relieve_py.strategies.measured import sockets_held as sockets_held
from relieve_py.strategies.recency import LeastRecentlyUsed, RoundRobin, Weighted
from relieve_py.strategies.sticky import Sticky

BUILT_IN: tuple[type[Strategy], ...] = (
    RoundRobin,
    Weighted,
    LeastRecentlyUsed,
    IdleFirst,
    LowestRSS,
    FewestSockets,
    Sticky,
    Random,
    TwoChoices,
)
"""Every strategy of this package that has a name, each made without arguments."""
