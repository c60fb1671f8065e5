"""One pool for each launcher and module, under load during every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faulting import FAULTY, Pool, make_task

from relieve_py import CallableTask, CloudWorker, Worker

if os.path.dirname(FAULTY) not in sys.path:
    sys.path.append(os.path.dirname(FAULTY))  # so that what a child makes by name is found here, too


@pytest.fixture(scope="module")
def shared_pool(request: pytest.FixtureRequest, launcher: str, shared: list[Worker]) -> Iterator[Pool]:
    """Two running tasks of the module's SCRIPT, or of faulty.py."""
    task = make_task(launcher, script=getattr(request.module, "SCRIPT", FAULTY))
    pool = Pool(CloudWorker(task, size=2), launcher)
    shared.append(pool.worker)
    with pool.worker:
        yield pool
    shared.remove(pool.worker)


@pytest.fixture
def pool(shared_pool: Pool) -> Iterator[Pool]:
    """The module's pool with calls in flight; after the test it is whole again."""
    yield from shared_pool.under_load()


@pytest.fixture
def alone(request: pytest.FixtureRequest, launcher: str, shared_pool: Pool) -> Iterator[Callable[..., CallableTask]]:
    """Makes running tasks of the module's script for one test, which may do to their children what it wants."""
    made: list[CallableTask] = []

    def make(**options: Any) -> CallableTask:
        task = make_task(launcher, script=getattr(request.module, "SCRIPT", FAULTY), **options)
        made.append(task)
        task.start().result()
        return task

    yield make
    for task in made:
        task.stop(0.1).result()
