"""Circuit breakers: when what a handler depends on is away, its events wait instead of using their attempts up.

class ChargeCard(IntegrationEventHandler[OrderPlacedV1]):
    blocking = True
    circuit_breaker = CircuitBreaker(outage=(ConnectionError, TimeoutError))
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mediator.errors import SettingsError

__all__ = ["CircuitBreaker"]


@dataclass(frozen=True)
class CircuitBreaker:
    """Opens after so many outages in a row; from then on one event at a time tries whether they are over."""

    outage: tuple[type[Exception], ...]
    """Errors which say that the other side is away, whatever the event. Any other outcome says that it is there."""
    after: int = 3
    """How many in a row; the ones before the last have cost an attempt each."""
    pause: timedelta = timedelta(seconds=5)
    """Before the first try; twice as long before each further one."""
    longest_pause: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        kinds: Any = self.outage
        is_listed = isinstance(kinds, tuple) and len(kinds) > 0
        if not is_listed or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise SettingsError("CircuitBreaker.outage", self.outage, "list exception classes in a tuple")
        after: Any = self.after
        if not isinstance(after, int) or after < 1:
            raise SettingsError("CircuitBreaker.after", self.after, "use 1 or more")
        if not timedelta(0) < self.pause <= self.longest_pause:
            raise SettingsError("CircuitBreaker.pause", self.pause, "use more than 0, and no more than longest_pause")
