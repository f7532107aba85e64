"""How long a delivery waits for its next attempt, and when it is given up."""

from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediator import PermanentError, RetryPolicy
from mediator.errors import SettingsError

DELAYS = st.timedeltas(timedelta(0), timedelta(hours=1))
POLICIES = st.builds(
    lambda first, more, factor, jitter: RetryPolicy(
        first_delay=first, longest_delay=first + more, factor=factor, jitter=jitter
    ),
    DELAYS,
    DELAYS,
    st.floats(1, 100),
    st.booleans(),
)
ATTEMPTS = st.integers(1, 10_000)
RANDOMS = st.randoms(use_true_random=False)
TICK = timedelta(microseconds=1)


@given(POLICIES, ATTEMPTS, RANDOMS)
def test_a_delay_is_never_longer_than_the_longest(policy: RetryPolicy, attempt: int, random: Random) -> None:
    assert timedelta(0) <= policy.delay_after(attempt, random) <= policy.longest_delay + TICK


@given(POLICIES, RANDOMS)
def test_delays_grow_until_they_reach_the_longest(policy: RetryPolicy, random: Random) -> None:
    plain = RetryPolicy(
        first_delay=policy.first_delay, longest_delay=policy.longest_delay, factor=policy.factor, jitter=False
    )
    delays = [plain.delay_after(attempt, random) for attempt in range(1, 100)]

    assert delays[0] == plain.first_delay
    assert all(earlier <= later for earlier, later in pairwise(delays))


@given(POLICIES, ATTEMPTS, RANDOMS)
def test_jitter_cuts_down_to_a_half_at_most(policy: RetryPolicy, attempt: int, random: Random) -> None:
    plain = RetryPolicy(
        first_delay=policy.first_delay, longest_delay=policy.longest_delay, factor=policy.factor, jitter=False
    )
    full, cut = plain.delay_after(attempt, random), policy.delay_after(attempt, random)

    assert full / 2 - TICK <= cut <= full + TICK


def test_the_default_waits_1_2_4_8_seconds_and_at_most_five_minutes() -> None:
    policy = RetryPolicy(jitter=False)
    delays = [policy.delay_after(attempt, Random(1)).total_seconds() for attempt in range(1, 12)]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert RetryPolicy.exponential() == RetryPolicy()
    assert RetryPolicy().attempts == 5


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [(RetryPolicy.cap(), 51), (RetryPolicy.netcorepal(), 11), (RetryPolicy.netcorepal(retries=4), 5)],
)
def test_the_policies_of_cap_try_three_times_at_once_and_then_once_a_minute(policy: RetryPolicy, attempts: int) -> None:
    delays = [policy.delay_after(attempt, Random(1)).total_seconds() for attempt in range(1, 51)]

    assert delays == [0, 0, 0, *[60] * 47]
    assert not policy.gives_up(attempts - 1, LookupError())
    assert policy.gives_up(attempts, LookupError())


@pytest.mark.parametrize(
    "policy", [RetryPolicy.cap(permanent=(KeyError,)), RetryPolicy.netcorepal(permanent=(KeyError,))]
)
def test_the_policies_of_cap_know_permanent_errors(policy: RetryPolicy) -> None:
    assert policy.gives_up(1, KeyError())
    assert not policy.gives_up(1, LookupError())


def test_jitter_differs_from_one_delivery_to_the_next() -> None:
    random = Random(1)

    assert len({RetryPolicy().delay_after(1, random) for _ in range(20)}) > 10


def test_a_fixed_delay_is_always_the_same() -> None:
    policy = RetryPolicy.fixed(3, timedelta(minutes=10))

    assert {policy.delay_after(attempt, Random(attempt)) for attempt in range(1, 50)} == {timedelta(minutes=10)}


class UnknownSku(Exception):  # noqa: N818 - the design's own example
    pass


class DeclinedError(PermanentError):
    pass


@pytest.mark.parametrize(
    ("policy", "attempt", "error", "given_up"),
    [
        (RetryPolicy.exponential(attempts=3), 1, ValueError(), False),
        (RetryPolicy.exponential(attempts=3), 2, ValueError(), False),
        (RetryPolicy.exponential(attempts=3), 3, ValueError(), True),
        (RetryPolicy.exponential(attempts=3), 4, ValueError(), True),
        (RetryPolicy.never(), 1, ValueError(), True),
        (RetryPolicy(), 1, PermanentError(), True),
        (RetryPolicy(), 1, DeclinedError(), True),
        (RetryPolicy.exponential(permanent=(UnknownSku,)), 1, UnknownSku(), True),
        (RetryPolicy.exponential(permanent=(LookupError,)), 1, KeyError(), True),
        (RetryPolicy.exponential(permanent=(UnknownSku,)), 1, ValueError(), False),
    ],
)
def test_when_a_delivery_is_given_up(policy: RetryPolicy, attempt: int, error: Exception, given_up: bool) -> None:
    assert policy.gives_up(attempt, error) is given_up


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": -1}, "attempts"),
        ({"first_delay": timedelta(-1)}, "first_delay"),
        ({"first_delay": timedelta(hours=1)}, "first_delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": 101}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"permanent": (int,)}, "permanent"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingsError, match=rf"RetryPolicy\.{setting}"):
        RetryPolicy(**wrong)
