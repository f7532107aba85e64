"""The runtime: time, randomness and identities, and the places where a test may interrupt.

Nothing else in the toolkit reads a clock, draws a random number or makes an id, so that a test can own all of them:

    app = MediatorApp("shop", ..., runtime=Runtime(random=Random(7)))

Times that decide something (when a retry is due, what has expired) come from the database's clock instead, because
processes do not agree on theirs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["Runtime"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _go_on(_place: str) -> None:
    """The failpoint of production: nothing happens."""


@dataclass(frozen=True)
class Runtime:
    """What a process takes from its surroundings."""

    now: Callable[[], datetime] = _utc_now
    """Wall clock, aware, UTC. For people to read; never for order or deduplication."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    random: Random = field(default_factory=Random)
    """For jitter only."""
    new_id: Callable[[], UUID] = uuid7
    """UUIDv7, so that ids are in time order and indexes stay warm."""
    reached: Callable[[str], None] = _go_on
    """Called at every crash point by its name; a test kills the process there or raises."""
