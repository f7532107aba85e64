"""Notifications of PostgreSQL: which slots of an outbox have got rows, told to other processes."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.database import Database
from mediator.storage.engines import mark_as_outage
from mediator.storage.postgresql import lock_number

__all__ = ["notify", "told_slots"]

_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


async def notify(database: Database, connection: AsyncConnection, slots: Collection[int]) -> None:
    """Tell of rows in these slots, also of scheduled ones, on a connection that is in no transaction."""
    payload = ",".join(map(str, sorted(slots)))
    await connection.execute(_NOTIFY, {"channel": _channel(database), "payload": payload})


async def told_slots(database: Database) -> AsyncGenerator[Collection[int], None]:
    """What other processes tell of, on a connection of its own; the first answer, of no slots, says that it listens.

    Raises when the connection is lost.
    """
    channel = _channel(database)
    async with database.dedicated() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        told = _told_by_asyncpg if hasattr(driver, "add_listener") else _told_by_psycopg
        try:
            async for payload in told(driver, channel):
                yield [int(slot) for slot in payload.split(",") if slot.removeprefix("-").isdigit()]
        except Exception as error:
            mark_as_outage(error)
            raise


def _channel(database: Database) -> str:
    place = lock_number("wake", database.tables.place)
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
