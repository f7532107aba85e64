"""Statements on what is scheduled: rows of the outbox that wait for their time, in slots of their own, `-1 - slot`.

    cancel, reschedule    in the transaction of a unit of work; they hold if it commits
    release               by the relay: what has become due moves to the slot that it relays from

Each of them changes a row while it has the row's lock, and only if the row still waits then. So of two that want the
same row the second finds it gone, or with another time: an event is either cancelled or sent.

MariaDB locks the entry of the index by which it looks a row up, and then the row; whoever removes a row locks it, and
then its entries. So there rows are looked up without locks, and locked by their key.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, insert, literal_column, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import MYSQL, EventId, Moment, database_now, milliseconds, one_of
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, by_slot, due_at, key_of, removal, walking_the_key

__all__ = ["Schedule"]


class Schedule:
    """What is scheduled in the outbox of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        outbox, row, dialect = database.tables.outbox, database.tables.outbox.c, database.dialect
        in_slot, chosen = row.slot == bindparam("of_slot"), one_of(row.position, "positions", dialect)
        # Not as a parameter: the partial index is taken for statements that say the same as it does.
        is_scheduled = row.slot < literal_column("0")
        named = row.event_id == bindparam("event_id", type_=EventId())
        self._find = select(row.slot, row.position).where(named, is_scheduled)
        self._remove = removal(database.tables)
        self._change: Any = update(outbox).where(in_slot, chosen).values(due_at=due_at())
        # Each slot by its name: `slot < 0` would walk along all that is scheduled.
        is_due = row.due_at <= database_now()
        self._due_slots = select(row.slot).distinct().where(row.slot.in_(range(-SLOTS, 0)), is_due)
        due = select(row.position).where(in_slot, is_due).order_by(row.due_at, row.position)
        self._due = due.limit(bindparam("at_most", type_=BigInteger()))
        self._lock: Any = None
        if dialect in MYSQL:
            change = walking_the_key(outbox, "UPDATE {rows} SET o.due_at = COALESCE(:at, {now} + :delay)")
            self._change = change.bindparams(bindparam("at", type_=Moment()))
            lock = "SELECT o.position FROM {rows} WHERE o.due_at <= {now} FOR UPDATE SKIP LOCKED"
            self._lock = walking_the_key(outbox, lock)
        else:
            self._due = self._due.with_for_update(skip_locked=True)
        kept = [column.name for column in row if column.name not in {"slot", "position", "xid"}]
        released = select(-1 - row.slot, *(row[name] for name in kept)).where(in_slot, chosen)
        self._copy = insert(outbox).from_select(["slot", *kept], released.order_by(row.due_at, row.position))

    async def cancel(self, connection: AsyncConnection, event_id: UUID) -> bool:
        """Remove what is scheduled of an event, in the transaction of `connection`; False when there is nothing."""
        return bool(await self._apply(self._remove, connection, event_id, {}))

    async def reschedule(
        self, connection: AsyncConnection, event_id: UUID, *, delay: timedelta | None, at: datetime | None
    ) -> Collection[int]:
        """Give what is scheduled of an event another time; the slots in which it waits, none when there is nothing."""
        time = {"delay": None if delay is None else milliseconds(delay), "at": at}
        return await self._apply(self._change, connection, event_id, time)

    async def _apply(
        self, statement: Any, connection: AsyncConnection, event_id: UUID, parameters: dict[str, Any]
    ) -> Collection[int]:
        slots: list[int] = []
        found = (await connection.execute(self._find, {"event_id": event_id})).mappings()
        # An event that was published twice has two rows.
        for chosen in by_slot(map(key_of, found)):
            result = await connection.execute(statement, {**chosen, **parameters})
            if cast("CursorResult[Any]", result).rowcount:
                slots.append(chosen["of_slot"])
        return slots

    async def release(self, slots: Collection[int], at_most: int) -> Collection[int]:
        """Let go what has become due, in the order of its time; gives the slots that got rows.

        They draw new positions: whoever walks along a slot may be past the old ones.
        """
        async with self._database.read() as connection:
            filled = {-1 - slot for slot in (await connection.execute(self._due_slots)).scalars()} & set(slots)
        for slot in filled:
            async with self._database.begin() as connection:
                found = await connection.execute(self._due, {"of_slot": -1 - slot, "at_most": at_most})
                chosen = {"of_slot": -1 - slot, "positions": found.scalars().all()}
                if self._lock is not None:
                    chosen["positions"] = (await connection.execute(self._lock, chosen)).scalars().all()
                await connection.execute(self._copy, chosen)
                await connection.execute(self._remove, chosen)
        return filled
