"""RestartPolicy and RetryPolicy: their values, what they refuse, and the delays that they give."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.errors import TaskDied
from relieve_py.policies import (
    LONGEST_DELAY,
    MIN_BACKOFF,
    NEVER,
    RestartPolicy,
    RetryPolicy,
    restart_policy,
    retry_policy,
)


@pytest.mark.parametrize(
    ("keywords", "error", "names"),
    [
        ({"mode": "sometimes"}, ValueError, "mode"),
        ({"max_restarts": -1}, ValueError, "max_restarts"),
        ({"max_restarts": 1.5}, TypeError, "max_restarts"),
        ({"max_restarts": True}, TypeError, "max_restarts"),
        ({"within": "x"}, TypeError, "within"),
        ({"within": -1}, ValueError, "within"),
        ({"delay": -0.1}, ValueError, "delay"),
        ({"delay": float("nan")}, ValueError, "delay"),
        ({"backoff": 0.5}, ValueError, "backoff"),
        ({"max_delay": None}, TypeError, "max_delay"),
    ],
)
def test_a_wrong_restart_policy_is_refused_by_name(keywords: Any, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=f"^{names} must be "):
        RestartPolicy(**keywords)


@pytest.mark.parametrize(
    ("keywords", "error", "names"),
    [
        ({"max": -1}, ValueError, "max"),
        ({"max": 1.0}, TypeError, "max"),
        ({"on": (3,)}, TypeError, "on"),
        ({"on": (int,)}, TypeError, "on"),
        ({"delay": -1}, ValueError, "delay"),
        ({"backoff": 0}, ValueError, "backoff"),
    ],
)
def test_a_wrong_retry_policy_is_refused_by_name(keywords: Any, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=f"^{names} must be "):
        RetryPolicy(**keywords)


def test_what_a_users_restart_option_means() -> None:
    default, given_ = RestartPolicy(mode="on-failure"), RestartPolicy(max_restarts=1)
    assert restart_policy(None, default) is default
    assert restart_policy(True, default) == RestartPolicy()
    assert restart_policy(False, default) == NEVER
    assert restart_policy(given_, default) is given_
    with pytest.raises(TypeError, match=r"^restart must be "):
        restart_policy("always", default)  # type: ignore[arg-type]


def test_what_a_users_retries_option_means() -> None:
    default, given_ = RetryPolicy(max=2), RetryPolicy(max=3, delay=1)
    assert retry_policy(None, default) is default
    assert retry_policy(given_, default) is given_
    assert retry_policy(4, default) == RetryPolicy(max=4)
    for wrong, error in ((True, TypeError), (1.5, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=r"^retries must be "):
            retry_policy(wrong, default)  # type: ignore[arg-type]


def test_deaths_are_retried_and_other_errors_only_when_named() -> None:
    policy = RetryPolicy(max=2, on=OSError)
    assert policy.on == (OSError,)
    assert policy.allows(1, TaskDied("x"), died=True)
    assert policy.allows(2, FileNotFoundError(), died=False)
    assert not policy.allows(1, ValueError(), died=False)
    assert not policy.allows(3, TaskDied("x"), died=True)
    assert not RetryPolicy().allows(1, TaskDied("x"), died=True)


def test_retries_wait_longer_each_time() -> None:
    policy = RetryPolicy(max=9, delay=0.5, backoff=3)
    assert [policy.delay_before(n) for n in (1, 2, 3)] == [0.5, 1.5, 4.5]
    assert RetryPolicy(max=9).delay_before(5) == 0.0


numbers = st.floats(0, 1e12, allow_nan=False)


@given(numbers, st.floats(1, 1e12), numbers, st.integers(1, 10**4), st.floats(0, 1, exclude_max=True))
def test_a_restart_delay_is_between_zero_and_the_limit(
    delay: float, backoff: float, max_delay: float, in_a_row: int, jitter: float
) -> None:
    policy = RestartPolicy(delay=delay, backoff=backoff, max_delay=max_delay)
    assert 0 <= policy.delay_before(in_a_row, jitter) <= max_delay


@given(numbers, st.floats(1, 1e12), st.integers(1, 10**4))
def test_a_retry_delay_is_a_bounded_number(delay: float, backoff: float, failures: int) -> None:
    policy = RetryPolicy(max=99, delay=delay, backoff=backoff)
    assert 0 <= policy.delay_before(failures) <= LONGEST_DELAY


def test_jitter_takes_off_up_to_a_tenth() -> None:
    policy = RestartPolicy(delay=10.0, max_delay=100.0)
    assert policy.delay_before(2, 0.0) == 20.0
    assert policy.delay_before(2, 0.5) == pytest.approx(19.0)
    assert policy.delay_before(1, 0.9) == 10.0
    assert RestartPolicy().delay_before(2, 0.0) == MIN_BACKOFF


def test_policies_are_values() -> None:
    assert RestartPolicy(delay=1) == RestartPolicy(delay=1)
    assert hash(RetryPolicy(on=[OSError])) == hash(RetryPolicy(on=(OSError,)))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RestartPolicy().delay = 3  # type: ignore[misc]
