"""How long the fuzzers run: a share each of one budget, the same examples at every run unless more time is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("RELIEVE_FUZZ_EXAMPLES", "400"))
"""Of a test with a share of 1. The default keeps all of them together under 20 seconds."""


def share(part: float) -> Callable[[Any], Any]:
    """Settings of a test that gets that part of the examples. With more than usual, they are other ones each time."""
    usual = "RELIEVE_FUZZ_EXAMPLES" not in os.environ
    return settings(
        max_examples=max(1, int(EXAMPLES * part)),
        derandomize=usual,
        database=None,
        deadline=None,  # what hangs is found by PATIENCE
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
