"""Event ids: UUIDs of version 7 (RFC 9562), so that ids sort by the time they were made.

    first, second = uuid7(), uuid7()
    assert first < second

Within one process every id is greater than the one before, over all threads, even when the clock steps back. Random ids
would scatter over the inbox's index; ids in time order append to it.

The standard library has `uuid.uuid7` from 3.14 on. It takes no lock and keeps its counter over a fork, so the promise
would differ from version to version; this generator is used on all of them.
"""

import os
import time
from threading import Lock
from uuid import UUID

__all__ = ["uuid7"]

_RANDOM_BITS = 74
_FRESH_BITS = _RANDOM_BITS - 1  # the top bit starts as 0, so a busy millisecond has room to count up


class _Generator:
    """Counts upwards in 48 bits of milliseconds followed by 74 random ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = 0

    def __call__(self) -> UUID:
        random = int.from_bytes(os.urandom(10))
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._last >> _RANDOM_BITS:
                self._last = now << _RANDOM_BITS | random >> (80 - _FRESH_BITS)
            else:
                self._last += 1 + (random & 0xFFFF_FFFF)
            last = self._last
        timestamp, high, low = last >> 74, last >> 62 & 0xFFF, last & 0x3FFF_FFFF_FFFF_FFFF
        return UUID(int=timestamp << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


_generate = _Generator()

# A child must neither continue its parent's count nor wait for a lock that a thread of the parent held.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_generate.__init__)  # type: ignore[misc]


def uuid7() -> UUID:
    """Return an id that is greater than every id made in this process before."""
    return _generate()
