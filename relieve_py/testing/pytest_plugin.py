"""Fixtures for pytest, for those who ask: ``pytest_plugins = ["relieve_py.testing.pytest_plugin"]`` in a conftest.py.

It is no installed plug-in of pytest: that would be loaded in every run of everybody who has this library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from relieve_py.testing.chaos import Chaos


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Callable[..., Chaos]]:
    """Begins chaos that lasts to the end of the test: ``chaos(kill=0.01)`` takes the options of
    ``relieve_py.testing.Chaos`` and gives one. The report of a test that fails has its seed."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Chaos:
            from relieve_py.testing.chaos import Chaos

            begun = stack.enter_context(Chaos(**options))
            request.node.add_report_section("call", "chaos", repr(begun))
            return begun

        yield begin
