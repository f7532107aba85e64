"""Removing what has expired, in batches so small that nobody waits for them.

Live outbox rows are never removed here, dead deliveries only where the application set an age for them. An inbox row
stays as long as a parked delivery needs it: without it, a redelivery would be handled a second time.
"""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import ARRAY, Table, delete, exists, func, literal, select, tuple_
from sqlalchemy.engine import CursorResult
from sqlalchemy.sql import ColumnElement

from mediator.storage.columns import MYSQL, database_now, milliseconds
from mediator.storage.database import Database
from mediator.storage.parked import DEAD, DISCARDED
from mediator.storage.partitions import left_to_batches

__all__ = ["purge_dead", "purge_discarded", "purge_inbox", "purge_locks", "purge_sent"]


async def purge_sent(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove history; gives the number of rows, at most `batch`."""
    sent = database.tables.sent
    return await _purge(database, sent, batch, sent.c.sent_at < database_now() - milliseconds(older_than))


async def purge_inbox(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove expired inbox rows that no parked delivery needs."""
    inbox, parked = database.tables.inbox, database.tables.parked
    needed = exists().where(parked.c.subscriber_id == inbox.c.subscriber_id, parked.c.event_id == inbox.c.event_id)
    expired = inbox.c.processed_at < database_now() - milliseconds(older_than)
    if database.tables.partitioned_inbox:
        expired &= await left_to_batches(database, older_than)
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


async def purge_locks(database: Database, older_than: timedelta, batch: int) -> int:
    """Remove keys of commands that nobody holds; they come again when they are needed. Only MySQL keeps them."""
    if database.dialect not in MYSQL:
        return 0
    locks = database.tables.locks
    old = locks.c.locked_at < database_now() - milliseconds(older_than)
    async with database.begin() as connection:
        free = select(locks.c.name).where(old).limit(batch).with_for_update(skip_locked=True)
        names = (await connection.execute(free)).scalars().all()
        await connection.execute(delete(locks).where(locks.c.name.in_(names)))
    return len(names)


async def _purge(database: Database, table: Table, batch: int, expired: ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    async with database.read() as connection:
        found = (await connection.execute(select(*key).where(expired).limit(batch))).all()
    if not found:
        return 0
    # In the order of the key, so that two processes that clean do not wait for each other crosswise.
    rows = sorted(tuple(row) for row in found)
    chosen = tuple_(*key).in_(rows) if len(key) > 1 else key[0].in_([row[0] for row in rows])
    if database.dialect == "postgresql":
        # A thousand pairs in a list take PostgreSQL most of a second to plan, and 17,000 are more than it takes.
        values = zip(key, zip(*rows, strict=True), strict=True)
        pairs = select(*(func.unnest(literal(list(column), ARRAY(of.type))) for of, column in values))
        chosen = tuple_(*key).in_(pairs)
    async with database.begin() as connection:
        # Asked again: a delivery may have been parked for a row since it was read.
        result = await connection.execute(delete(table).where(chosen, expired))
    return cast("CursorResult[Any]", result).rowcount
