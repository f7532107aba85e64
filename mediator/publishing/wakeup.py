"""Waking relays in other processes, where the database can tell them (PostgreSQL).

A NOTIFY inside the business transaction would serialise all commits: it holds a lock of the whole server through the
flush to disk. So each process has one notifier with a connection of its own, which tells after the commit, at once and
then at most every ten milliseconds. What it cannot tell, the relay's polling finds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager

from mediator.messaging.supervision import background
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.notifications import notify, told_slots
from mediator.storage.outbox import SLOTS

__all__ = ["Notifier", "listening"]

_BETWEEN_SECONDS = 0.01


class Notifier:
    """Tells other processes of rows in slots that are not relayed here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots: set[int] = set()
        self._dirty = asyncio.Event()

    def tell(self, slots: Collection[int]) -> None:
        """Rows were committed to these slots."""
        if slots:
            self._slots.update(slots)
            self._dirty.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell in the background."""
        async with background("notifier", self._run, is_outage=is_transient):
            yield

    async def _run(self) -> None:
        await self._dirty.wait()
        async with self._database.dedicated() as connection:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                slots, self._slots = self._slots, set()
                await notify(self._database, connection, slots)
                await asyncio.sleep(_BETWEEN_SECONDS)


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
