"""How long a delivery waits for its next attempt, and when it is given up."""

import pickle
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediator import PermanentError, RetryPolicy
from mediator.errors import RetryAfterError, SettingsError

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
        ({"attempts": 30_001}, "attempts"),
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


def test_the_most_attempts_can_be_counted() -> None:
    policy = RetryPolicy(attempts=30_000)

    assert not policy.gives_up(29_999, LookupError())
    assert policy.gives_up(30_000, LookupError())


class ThrottledError(OSError):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


SECOND = timedelta(seconds=1)
LENIENT = RetryPolicy.fixed(3, SECOND).on(OSError, RetryPolicy.fixed(10, 5 * SECOND)).on(KeyError, RetryPolicy.never())


@pytest.mark.parametrize(
    ("error", "delay", "attempts"),
    [
        (ValueError(), SECOND, 3),
        (None, SECOND, 3),
        (OSError(), 5 * SECOND, 10),
        (ConnectionError(), 5 * SECOND, 10),
        (LookupError(), SECOND, 3),
        (KeyError(), SECOND, 1),
    ],
)
def test_the_policy_of_the_nearest_class_decides(error: Exception | None, delay: timedelta, attempts: int) -> None:
    if attempts > 1:
        assert LENIENT.delay_after(1, Random(1), error) == delay
        assert not LENIENT.gives_up(attempts - 1, error or Exception())
    assert LENIENT.gives_up(attempts, error or Exception())


def test_a_class_of_its_own_comes_before_its_base() -> None:
    policy = LENIENT.on(ConnectionError, RetryPolicy.fixed(4, 7 * SECOND))

    assert policy.delay_after(1, Random(1), ConnectionResetError()) == 7 * SECOND
    assert LENIENT.delay_after(1, Random(1), ConnectionResetError()) == 5 * SECOND


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (90, timedelta(seconds=90)),
        (6.5, timedelta(seconds=6.5)),
        (SECOND, 5 * SECOND),
        (timedelta(days=100), timedelta(days=7)),
        (1e300, 5 * SECOND),
        (float("nan"), 5 * SECOND),
        (float("inf"), 5 * SECOND),
        (-1, 5 * SECOND),
        ("60", 5 * SECOND),
        (None, 5 * SECOND),
        (b"1", 5 * SECOND),
    ],
)
def test_an_error_may_say_when_it_is_of_use_to_try_again(retry_after: object, delay: timedelta) -> None:
    assert LENIENT.delay_after(1, Random(1), ThrottledError(retry_after)) == delay


def test_the_toolkit_has_an_error_that_says_so() -> None:
    error = RetryAfterError(timedelta(minutes=2), "the bank is closed")

    assert str(error) == "the bank is closed; not before 120 s"
    assert LENIENT.delay_after(1, Random(1), error) == timedelta(minutes=2)


@pytest.mark.parametrize(("kind", "policy"), [(1, RetryPolicy()), (int, RetryPolicy()), (ValueError, LENIENT)])
def test_an_override_that_cannot_work_is_refused(kind: Any, policy: RetryPolicy) -> None:
    with pytest.raises(SettingsError, match=r"RetryPolicy\.on"):
        RetryPolicy().on(kind, policy)


def test_a_policy_with_overrides_is_a_value() -> None:
    again = (
        RetryPolicy.fixed(3, SECOND).on(OSError, RetryPolicy.fixed(10, 5 * SECOND)).on(KeyError, RetryPolicy.never())
    )

    assert again == LENIENT
    assert hash(LENIENT) == hash(again)
    assert pickle.loads(pickle.dumps(LENIENT)) == LENIENT
    assert RetryPolicy.fixed(3, SECOND) != LENIENT
