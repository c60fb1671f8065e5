"""Cases 12 to 34 of the fault table: what goes wrong while a call runs."""

from __future__ import annotations

import pytest
from faulting import Pool, Row, case, error

from relieve_py import TaskDied


@pytest.mark.parametrize(
    "row",
    [
        case(12, "raise_key_error", ends=error(KeyError, "boom")),
        case(13, "leave", 3, ends=error(TaskDied, exit_code=3, signal=None)),
        case(14, "leave_at_once", 0, ends=error(TaskDied, exit_code=0, signal=None)),
        case(15, "leave_at_once", 3, ends=error(TaskDied, exit_code=3, signal=None)),
        case(16, "crash", ends=error(TaskDied, exit_code=None, signal="SIGSEGV")),
        case(17, "kill", ends=error(TaskDied, exit_code=None, signal="SIGKILL")),
    ],
)
def test_a_call_that_fails_or_ends_its_child_ends_with_one_error(pool: Pool, row: Row) -> None:
    pool.bears(row)
