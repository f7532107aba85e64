"""Notifications of PostgreSQL: slots of an outbox, or lanes of deliveries, have got rows, told to other processes.

A NOTIFY inside the business transaction would serialise all commits: it holds a lock of the whole server through the
flush to disk. So each process has a notifier with a connection of its own, which tells after the commit, at once and
then at most every ten milliseconds. What it cannot tell, polling finds.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.database import Database
from mediator.storage.engines import mark_as_outage
from mediator.storage.postgresql import lock_number

__all__ = ["Notifier", "notify", "told_slots"]

_BETWEEN_SECONDS = 0.01
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


class Notifier:
    """Tells other processes of rows that they have to look after."""

    def __init__(self, database: Database, about: str = "wake") -> None:
        self._database, self._about = database, about
        self._slots: set[int] = set()
        self._dirty = asyncio.Event()

    def tell(self, slots: Collection[int]) -> None:
        """Rows were committed to these slots."""
        if slots:
            self._slots.update(slots)
            self._dirty.set()

    async def run(self) -> None:
        """Tell, on a connection that is made when there is something to tell; raises when it is lost."""
        await self._dirty.wait()
        async with self._database.dedicated() as connection:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                slots, self._slots = self._slots, set()
                await notify(self._database, connection, slots, self._about)
                await asyncio.sleep(_BETWEEN_SECONDS)


async def notify(database: Database, connection: AsyncConnection, slots: Collection[int], about: str = "wake") -> None:
    """Tell of rows in these slots, also of scheduled ones, on a connection that is in no transaction."""
    payload = ",".join(map(str, sorted(slots)))
    await connection.execute(_NOTIFY, {"channel": _channel(database, about), "payload": payload})


async def told_slots(database: Database, about: str = "wake") -> AsyncGenerator[Collection[int], None]:
    """What other processes tell of, on a connection of its own; the first answer, of no slots, says that it listens.

    Raises when the connection is lost.
    """
    channel = _channel(database, about)
    async with database.dedicated() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        told = _told_by_asyncpg if hasattr(driver, "add_listener") else _told_by_psycopg
        try:
            async for payload in told(driver, channel):
                yield [int(slot) for slot in payload.split(",") if slot.removeprefix("-").isdigit()]
        except Exception as error:
            mark_as_outage(error)
            raise


def _channel(database: Database, about: str = "wake") -> str:
    place = lock_number(about, database.tables.place)
    return f"mediator_{place % 2**64:016x}"


async def _told_by_asyncpg(driver: Any, channel: str) -> AsyncGenerator[str, None]:
    payloads: asyncio.Queue[str | None] = asyncio.Queue()

    def told(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
        payloads.put_nowait(payload)

    driver.add_termination_listener(lambda _connection: payloads.put_nowait(None))
    await driver.add_listener(channel, told)
    try:
        yield ""
        while (payload := await payloads.get()) is not None:
            yield payload
        raise ConnectionResetError("the connection that listens was lost")
    finally:
        if not driver.is_closed():
            await driver.remove_listener(channel, told)


async def _told_by_psycopg(driver: Any, channel: str) -> AsyncGenerator[str, None]:
    await driver.execute(f"LISTEN {channel}")
    yield ""
    async for notification in driver.notifies():
        yield notification.payload
