"""Removing what has expired, in batches so small that nobody waits for them.

Live outbox rows are never removed here, dead deliveries only where the application set an age for them. An inbox row
stays as long as a parked delivery needs it: without it, a redelivery would be handled a second time.
"""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Table, delete, exists, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.sql import ColumnElement

from mediator.storage.columns import database_now, milliseconds
from mediator.storage.database import Database
from mediator.storage.parked import DEAD, DISCARDED

__all__ = ["purge_dead", "purge_discarded", "purge_inbox", "purge_sent"]


async def purge_sent(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove history; gives the number of rows, at most `batch`."""
    sent = database.tables.sent
    return await _purge(database, sent, batch, sent.c.sent_at < database_now() - milliseconds(older_than))


async def purge_inbox(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove expired inbox rows that no parked delivery needs."""
    inbox, parked = database.tables.inbox, database.tables.parked
    needed = exists().where(parked.c.subscriber_id == inbox.c.subscriber_id, parked.c.event_id == inbox.c.event_id)
    expired = inbox.c.processed_at < database_now() - milliseconds(older_than)
    return await _purge(database, inbox, batch, expired & ~needed)


async def purge_dead(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove dead letters; only where the application asked for it."""
    parked = database.tables.parked
    expired = (parked.c.status == DEAD) & (parked.c.died_at < database_now() - milliseconds(older_than))
    return await _purge(database, parked, batch, expired)


async def purge_discarded(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove deliveries that a person discarded long ago."""
    parked = database.tables.parked
    expired = (parked.c.status == DISCARDED) & (parked.c.died_at < database_now() - milliseconds(older_than))
    return await _purge(database, parked, batch, expired)


async def _purge(database: Database, table: Table, batch: int, expired: ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    async with database.read() as connection:
        rows = (await connection.execute(select(*key).where(expired).limit(batch))).all()
    removed = 0
    if rows:
        async with database.begin() as connection:
            for row in rows:
                chosen = (column == value for column, value in zip(key, row, strict=True))
                # Asked again: a delivery may have been parked for this row since it was read.
                result = await connection.execute(delete(table).where(*chosen, expired))
                removed += cast("CursorResult[Any]", result).rowcount
    return removed
