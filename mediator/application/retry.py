"""Retry policies: how often a failing delivery is tried, and how long to wait in between.

    class ReserveStock(IntegrationEventHandler[OrderPlacedV1]):
        retry = RetryPolicy.exponential(attempts=5, permanent=(UnknownSku,)).on(
            Throttled, RetryPolicy.fixed(20, timedelta(minutes=1))
        )

An error with an attribute `retry_after` (a timedelta, or seconds) is not tried again before. The waiting time is cut at
random down to a half of it, so that many deliveries which failed together do not come back together.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

from mediator.errors import PermanentError, SettingsError, UnreadableMessageError

__all__ = ["RetryPolicy"]

_LARGEST_FACTOR = 100
_MOST_ATTEMPTS = 30_000
"""What the column that counts them can hold, less a margin for those under way."""
_LONGEST_RETRY_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts`, 30,000 at most, counts the first one too; after the last the delivery is dead."""

    attempts: int = 5
    first_delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    longest_delay: timedelta = timedelta(minutes=5)
    jitter: bool = True
    permanent: tuple[type[BaseException], ...] = ()
    at_once: int = 0
    """How many retries come without waiting, before the delays begin."""
    overrides: tuple[tuple[type[BaseException], "RetryPolicy"], ...] = ()
    """What `on` said; the class nearest to an error's own decides."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SettingsError("RetryPolicy.attempts", self.attempts, "at least 1: the first attempt counts too")
        if self.attempts > _MOST_ATTEMPTS:
            raise SettingsError("RetryPolicy.attempts", self.attempts, f"use {_MOST_ATTEMPTS:,} or less")
        if self.first_delay < timedelta(0) or self.longest_delay < self.first_delay:
            raise SettingsError(
                "RetryPolicy.first_delay", self.first_delay, "use 0 or more, and no more than longest_delay"
            )
        if self.at_once < 0:
            raise SettingsError("RetryPolicy.at_once", self.at_once, "use 0 or more")
        if not 1 <= self.factor <= _LARGEST_FACTOR:
            raise SettingsError("RetryPolicy.factor", self.factor, "use 1 (always the same delay) to 100")
        for kind in self.permanent:
            if not isinstance(kind, type) or not issubclass(kind, BaseException):  # type: ignore[redundant-expr]
                raise SettingsError("RetryPolicy.permanent", kind, "list exception classes")

    @classmethod
    def exponential(
        cls,
        attempts: int = 5,
        *,
        first_delay: timedelta = timedelta(seconds=1),
        longest_delay: timedelta = timedelta(minutes=5),
        permanent: tuple[type[BaseException], ...] = (),
    ) -> "RetryPolicy":
        """Wait 1, 2, 4, 8, … seconds, at most five minutes."""
        return cls(attempts, first_delay, longest_delay=longest_delay, permanent=permanent)

    @classmethod
    def fixed(
        cls, attempts: int, delay: timedelta, *, permanent: tuple[type[BaseException], ...] = ()
    ) -> "RetryPolicy":
        """Always wait the same time, without jitter."""
        return cls(attempts, delay, factor=1, longest_delay=delay, jitter=False, permanent=permanent)

    @classmethod
    def cap(cls, *, permanent: tuple[type[BaseException], ...] = ()) -> "RetryPolicy":
        """As DotNetCore.CAP does: three retries at once, then one a minute, up to fifty."""
        minute = timedelta(minutes=1)
        return cls(51, minute, 1, minute, jitter=False, permanent=permanent, at_once=3)

    @classmethod
    def netcorepal(cls, retries: int = 10, *, permanent: tuple[type[BaseException], ...] = ()) -> "RetryPolicy":
        """As netcorepal configures CAP: three retries at once, then one a minute, up to `retries`."""
        minute = timedelta(minutes=1)
        return cls(retries + 1, minute, 1, minute, jitter=False, permanent=permanent, at_once=3)

    @classmethod
    def never(cls) -> "RetryPolicy":
        """One attempt; a failure is dead at once."""
        return cls(attempts=1)

    def on(self, kind: type[BaseException], policy: "RetryPolicy") -> "RetryPolicy":
        """The same, but with another policy for errors of a class; what was tried for other errors counts."""
        if not isinstance(kind, type) or not issubclass(kind, BaseException):  # type: ignore[redundant-expr]
            raise SettingsError("RetryPolicy.on", kind, "name an exception class")
        if policy.overrides:
            raise SettingsError("RetryPolicy.on", policy, "give a policy that has no exceptions of its own")
        return replace(self, overrides=tuple({**dict(self.overrides), kind: policy}.items()))

    def delay_after(self, attempt: int, random: Random, error: BaseException | None = None) -> timedelta:
        """How long to wait after attempt number `attempt` (from 1) failed with `error`; at least its `retry_after`."""
        return max(self._for(error)._delay(attempt, random), _retry_after(error))  # noqa: SLF001 - of this class

    def _delay(self, attempt: int, random: Random) -> timedelta:
        if attempt <= self.at_once:
            return timedelta(0)
        # The exponent is capped: 2.0 ** 5000 is an OverflowError, and the longest delay is reached long before.
        factor: float = self.factor ** min(attempt - 1 - self.at_once, 60)
        seconds = min(self.first_delay.total_seconds() * factor, self.longest_delay.total_seconds())
        return timedelta(seconds=seconds * random.uniform(0.5, 1.0) if self.jitter else seconds)

    def gives_up(self, attempt: int, error: BaseException) -> bool:
        """Whether a delivery is dead after attempt number `attempt` failed with `error`."""
        policy = self._for(error)
        permanent = (PermanentError, UnreadableMessageError, *policy.permanent)
        return attempt >= policy.attempts or isinstance(error, permanent)

    def _for(self, error: BaseException | None) -> "RetryPolicy":
        overrides = dict(self.overrides)
        return next((overrides[kind] for kind in type(error).__mro__ if kind in overrides), self)


def _retry_after(error: BaseException | None) -> timedelta:
    """What an error says of itself; other libraries give seconds, and now and then nonsense."""
    wait = getattr(error, "retry_after", None)
    try:
        wait = timedelta(seconds=wait) if isinstance(wait, (int, float)) else wait
    except (ValueError, OverflowError):
        return timedelta(0)
    return min(max(wait, timedelta(0)), _LONGEST_RETRY_AFTER) if isinstance(wait, timedelta) else timedelta(0)
