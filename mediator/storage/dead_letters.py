"""Statements on dead letters: what operators look at, lock, change and remove.

Letters are locked by their positions, in order, and without what makes them big: a hundred thousand may be meant. What
has been locked in a status stays in it until the transaction ends, so changes name positions only.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import MYSQL, NOW, Moment, database_now
from mediator.storage.database import Database

__all__ = ["DeadLetterTable"]

_NEEDED = ("position", "subscriber_id", "event_id", "status", "partition_key", "parked_at", "died_at")

# A statement has at most 32,767 parameters on PostgreSQL, and not many more on SQLite.
_POSITIONS_AT_ONCE = 1_000


class DeadLetterTable:
    """What operators do to parked deliveries that are no longer tried."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parked = database.tables.parked

    async def find(self, *conditions: ColumnElement[bool], limit: int) -> Sequence[RowMapping]:
        """Whole rows that meet all conditions, oldest first."""
        query = select(self._parked).where(*conditions).order_by(self._parked.c.position).limit(limit)
        async with self._database.read() as connection:
            return (await connection.execute(query)).mappings().all()

    async def whole(self, connection: AsyncConnection, positions: Collection[int]) -> Sequence[RowMapping]:
        """The whole rows of letters that are locked, in order."""
        row = self._parked.c
        query = select(self._parked).where(row.position.in_(positions)).order_by(row.position)
        return (await connection.execute(query)).mappings().all() if positions else []

    async def states(
        self, *conditions: ColumnElement[bool], limit: int | None = None
    ) -> Sequence[tuple[int, datetime]]:
        """Position and time of death of all that meet the conditions, oldest first."""
        row = self._parked.c
        query = select(row.position, row.died_at).where(*conditions).order_by(row.position).limit(limit)
        async with self._database.read() as connection:
            return [(position, died_at) for position, died_at in await connection.execute(query)]

    async def groups(self, *conditions: ColumnElement[bool]) -> Sequence[RowMapping]:
        """How many have equal errors at one subscriber, with the error of the oldest, the most frequent first."""
        row = self._parked.c
        equal = (
            select(func.min(row.position).label("oldest"), func.count().label("count"))
            .where(*conditions)
            .group_by(row.subscriber_id, row.fingerprint)
            .subquery()
        )
        query = (
            select(row.fingerprint, row.subscriber_id, row.error_type, row.error, equal.c["count"])
            .join(equal, equal.c.oldest == row.position)
            .order_by(equal.c["count"].desc(), row.subscriber_id, row.fingerprint)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).mappings().all()

    async def lock(self, connection: AsyncConnection, positions: Collection[int], status: str) -> Sequence[RowMapping]:
        """Those of `positions` that have the status, in order, but for what somebody else has locked."""
        row = self._parked.c
        query = select(*(row[name] for name in _NEEDED)).order_by(row.position).with_for_update(skip_locked=True)
        if self._database.dialect in MYSQL:
            # A small table is walked along otherwise, and every row on the way is locked.
            query = query.with_hint(self._parked, "FORCE INDEX (PRIMARY)")
        return await self._having(connection, query, positions, status)

    async def having(self, connection: AsyncConnection, positions: Collection[int], status: str) -> set[int]:
        """Those of `positions` that have the status, whoever has locked them."""
        rows = await self._having(connection, select(self._parked.c.position), positions, status)
        return {row["position"] for row in rows}

    async def _having(
        self, connection: AsyncConnection, query: Select[Any], positions: Collection[int], status: str
    ) -> Sequence[RowMapping]:
        row, wanted, found = self._parked.c, sorted(set(positions)), list[RowMapping]()
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = row.position.in_(wanted[start : start + _POSITIONS_AT_ONCE])
            found.extend((await connection.execute(query.where(some, row.status == status))).mappings())
        return found

    async def decide(self, connection: AsyncConnection, positions: Collection[int], status: str) -> None:
        """Give letters another status; their age counts from now, for a person may think again."""
        chosen = update(self._parked).where(self._parked.c.position.in_(positions))
        await connection.execute(chosen.values(status=status, died_at=database_now()))

    async def try_again(self, connection: AsyncConnection, plan: Sequence[Mapping[str, Any]]) -> None:
        """Begin the attempts of letters anew; each has `at_position`, `to_status` and `due_at`."""
        if not plan:
            return
        statement = (
            update(self._parked)
            .where(self._parked.c.position == bindparam("at_position"))
            .values(
                status=bindparam("to_status"),
                next_attempt_at=bindparam("due_at", type_=Moment()),
                attempts=0,
                died_at=None,
            )
        )
        await connection.execute(statement, plan)

    async def now(self, connection: AsyncConnection) -> datetime:
        """The database's clock."""
        now: datetime = (await connection.execute(select(NOW))).scalar_one()
        return now

    async def remove(self, connection: AsyncConnection, positions: Collection[int]) -> None:
        """Remove letters."""
        await connection.execute(delete(self._parked).where(self._parked.c.position.in_(positions)))
