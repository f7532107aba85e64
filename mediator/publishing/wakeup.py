"""Waking relays in other processes, where the database can tell them (PostgreSQL; storage/notifications.py)."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager

from mediator.messaging.supervision import background
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.notifications import Notifier, told_slots
from mediator.storage.outbox import SLOTS

__all__ = ["listening", "telling"]


@asynccontextmanager
async def telling(notifier: Notifier) -> AsyncIterator[None]:
    """Tell other processes in the background."""
    async with background("notifier", notifier.run, is_outage=is_transient):
        yield


@asynccontextmanager
async def listening(database: Database, wake: Callable[[Collection[int]], None]) -> AsyncIterator[None]:
    """Call `wake` with the slots that other processes tell of."""

    async def listen() -> None:
        async with aclosing(told_slots(database)) as told:
            async for slots in told:
                # Whatever was told before, this process did not hear.
                wake(slots or range(SLOTS))

    async with background("listener", listen, is_outage=is_transient):
        yield
