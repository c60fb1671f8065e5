"""One pool for each launcher and module, under load during every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulting import Pool, make_pool

from relieve_py import Worker


@pytest.fixture(scope="module")
def shared_pool(launcher: str, shared: list[Worker]) -> Iterator[Pool]:
    """Two tasks of faulty.py, running."""
    pool = make_pool(launcher)
    shared.append(pool.worker)
    with pool.worker:
        yield pool
    shared.remove(pool.worker)


@pytest.fixture
def pool(shared_pool: Pool) -> Iterator[Pool]:
    """The module's pool with calls in flight; after the test it is whole again."""
    yield from shared_pool.under_load()
