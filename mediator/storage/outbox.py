"""Statements on the outbox and its history.

Rows leave the outbox by being deleted, never marked: marking costs three to four times as much and makes every fetch
wade through the past. Fetching selects on state; there is no cursor, so a transaction that commits late with a lower
position is seen by the next fetch all the same.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID
from zlib import crc32

from sqlalchemy import BigInteger, bindparam, delete, func, insert, literal, or_, select, update
from sqlalchemy.engine import CursorResult, RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import database_now, milliseconds
from mediator.storage.database import Database
from mediator.storage.tables import Tables

__all__ = ["SLOTS", "OutboxTable", "insert_statement", "slot_of"]

SLOTS = 16
"""Shares of the partition keys; each is relayed by one relay at a time."""


def slot_of(key: str | None, event_id: UUID, *, scheduled: bool = False) -> int:
    """The slot of a row: by partition key, or spread by id when there is no key and so no order to keep."""
    slot = crc32(key.encode() if key is not None else event_id.bytes) % SLOTS
    return -1 - slot if scheduled else slot


def insert_statement(tables: Tables) -> Any:
    """One INSERT, executed with a list of rows; each row may have a `delay` in milliseconds or None."""
    return insert(tables.outbox).values(due_at=database_now() + bindparam("delay", type_=BigInteger()))


class OutboxTable:
    """What the relay does to the outbox of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables = database.tables
        row = self._tables.outbox.c
        self._fetch = (
            select(self._tables.outbox)
            .where(
                row.slot == bindparam("slot"),
                or_(row.next_attempt_at.is_(None), row.next_attempt_at <= database_now()),
                row.position.not_in(bindparam("positions", expanding=True)),
                or_(row.partition_key.is_(None), row.partition_key.not_in(bindparam("keys", expanding=True))),
            )
            .order_by(row.position)
            .limit(bindparam("at_most"))
        )
        self._waiting_keys = (
            select(row.partition_key)
            .distinct()
            .where(row.slot == bindparam("slot"), row.next_attempt_at > database_now(), row.partition_key.is_not(None))
        )
        # Every column of the history but the moment of sending is a column of the outbox.
        copied = [column.name for column in self._tables.sent.c if column.name != "sent_at"]
        chosen = row.position.in_(bindparam("positions", expanding=True))
        self._copy = (
            insert(self._tables.sent)
            .from_select([*copied, "sent_at"], select(*(row[name] for name in copied), database_now()).where(chosen))
            # An event that is published again under its id is in the history already.
            .prefix_with("OR IGNORE", dialect="sqlite")
        )
        self._delete = delete(self._tables.outbox).where(chosen)

    async def fetch(
        self, slot: int, at_most: int, *, without_positions: Collection[int], without_keys: Collection[str]
    ) -> Sequence[RowMapping]:
        """Due rows of a slot in order, but those in flight and those whose key waits for a retry."""
        in_flight, held_keys = list(without_positions), list(without_keys)
        async with self._database.read() as connection:
            waiting = (await connection.execute(self._waiting_keys, {"slot": slot})).scalars().all()
            parameters = {
                "slot": slot,
                "at_most": at_most,
                "positions": in_flight,
                "keys": [*held_keys, *waiting],
            }
            return (await connection.execute(self._fetch, parameters)).mappings().all()

    async def release_scheduled(self) -> int:
        """Let go what has become due; gives the number of rows."""
        outbox = self._tables.outbox
        due = (outbox.c.slot < 0, outbox.c.due_at <= database_now())
        async with self._database.read() as connection:
            if await connection.scalar(select(literal(1)).where(*due).limit(1)) is None:
                return 0
        async with self._database.begin() as connection:
            result = await connection.execute(update(outbox).where(*due).values(slot=-1 - outbox.c.slot))
            return cast("CursorResult[Any]", result).rowcount

    async def record_attempts(self, positions: Sequence[int], change: int = 1) -> None:
        """Count an attempt before rows are handed out (or take it back), so that a row that kills is found out."""
        outbox = self._tables.outbox
        async with self._database.begin() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.position.in_(positions)).values(attempts=outbox.c.attempts + change)
            )

    async def complete(self, positions: Sequence[int], *, keep_history: bool) -> None:
        """Remove exactly these rows, which the transport confirmed, and copy them to the history."""
        async with self._database.begin() as connection:
            if keep_history:
                await connection.execute(self._copy, {"positions": positions})
            await connection.execute(self._delete, {"positions": positions})

    async def refuse(self, position: int, attempts: int, delay: timedelta, error: str) -> None:
        """Set a row aside until its next attempt."""
        outbox = self._tables.outbox
        async with self._database.begin() as connection:
            await connection.execute(
                update(outbox)
                .where(outbox.c.position == position)
                .values(attempts=attempts, next_attempt_at=database_now() + milliseconds(delay), last_error=error)
            )

    async def remove(self, connection: AsyncConnection, position: int) -> None:
        """Remove one row in the transaction that stores it as a dead letter."""
        await connection.execute(delete(self._tables.outbox).where(self._tables.outbox.c.position == position))

    async def pending(self, connection: AsyncConnection) -> Mapping[str, int]:
        """How many rows wait to be sent, and how many are scheduled for later."""
        slot = self._tables.outbox.c.slot
        rows = await connection.execute(select(slot < 0, func.count()).group_by(slot < 0))
        counts = {bool(scheduled): count for scheduled, count in rows}
        return {"outbox rows": counts.get(False, 0), "scheduled events": counts.get(True, 0)}
