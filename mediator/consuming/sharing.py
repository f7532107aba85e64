"""Who has which lane of a group, on transports that sort keys into lanes.

The processes of a group share its lanes by locks of their database (`storage/slots.py`), which die with their holder:
a killed process's lanes are taken at the others' next look. A lane changes hands in three steps, so that no key is
under way in two processes: nothing more of it is fetched; what was fetched of it ends; its lock is given up.
"""

import asyncio
from collections.abc import Callable, Collection

from mediator.messaging.supervision import happens
from mediator.messaging.transport import Subscription
from mediator.storage.slots import SlotLocks

__all__ = ["LaneShare"]

_LOOK_SECONDS, _SOON_SECONDS = 1.0, 0.1


class LaneShare:
    """This process's share of a group's lanes."""

    def __init__(self, locks: SlotLocks, busy: Callable[[], Collection[int]]) -> None:
        self._locks, self._busy = locks, busy
        self._taken: frozenset[int] = frozenset()
        self._stopping = asyncio.Event()

    async def keep(self, subscription: Subscription) -> None:
        """Take what is due here, and give up what is due to others, until it is stopped."""
        while not self._stopping.is_set():
            changed = await self._look(subscription)
            await happens(self._stopping, _SOON_SECONDS if changed else _LOOK_SECONDS)

    async def stop(self, subscription: Subscription) -> None:
        """Fetch no more, and let the others have the lanes of which nothing is under way."""
        self._stopping.set()
        await self._take(subscription, frozenset())
        # What a fetch was just bringing is known to be under way by then.
        await asyncio.sleep(_SOON_SECONDS)
        await self._locks.leave(self._busy())

    async def end(self) -> None:
        """Give everything up."""
        await self._locks.release()

    async def _look(self, subscription: Subscription) -> bool:
        # What is fetched from is busy: its lock is given up at the next look, when nothing more of it comes.
        due = await self._locks.acquire({*self._taken, *self._busy()})
        if self._stopping.is_set() or due == self._taken:
            return False
        await self._take(subscription, due)
        return True

    async def _take(self, subscription: Subscription, lanes: frozenset[int]) -> None:
        await subscription.take(lanes)
        self._taken = lanes
