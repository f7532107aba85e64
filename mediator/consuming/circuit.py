"""The circuit of one subscriber in this process: closed while the other side answers, open while it is away.

While it is open no attempt begins but the one that tries, after a pause, whether the outage is over. Everything else
waits, parked, with the attempts that it has left.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog

from mediator.application import CircuitBreaker

__all__ = ["Circuit"]

log = structlog.get_logger(__name__)


class Circuit:
    """Counts outages in a row; without a breaker it never opens."""

    def __init__(self, name: str, breaker: CircuitBreaker | None, monotonic: Callable[[], float]) -> None:
        self._name, self._breaker, self._monotonic = name, breaker, monotonic
        self._outages, self._try_at = 0, 0.0
        self.pause = timedelta(0)
        """How long to wait before the next try."""

    @property
    def is_open(self) -> bool:
        """Whether attempts have to wait."""
        return self._breaker is not None and self._outages >= self._breaker.after

    @property
    def may_try(self) -> bool:
        """Whether an attempt may begin, while it is open one at a time."""
        return not self.is_open or self._monotonic() >= self._try_at

    def is_outage(self, error: BaseException) -> bool:
        """Whether an error says that the other side is away."""
        return self._breaker is not None and isinstance(error, self._breaker.outage)

    def failed(self, error: BaseException) -> bool:
        """An attempt failed; gives whether it was nobody's failure, because the circuit is open now."""
        if self._breaker is None or not isinstance(error, self._breaker.outage):
            self.answered()
            return False
        self._outages += 1
        if not self.is_open:
            return False
        if self.may_try:
            # Those that were under way when it opened say nothing new.
            self.pause = min(max(self.pause * 2, self._breaker.pause), self._breaker.longest_pause)
            self._try_at = self._monotonic() + self.pause.total_seconds()
            log.warning("circuit.open", subscriber=self._name, pause_seconds=self.pause.total_seconds())
        return True

    def answered(self) -> None:
        """An attempt had an outcome that only the other side can have given."""
        if self.is_open:
            log.info("circuit.closed", subscriber=self._name)
        self._outages, self._try_at, self.pause = 0, 0.0, timedelta(0)
