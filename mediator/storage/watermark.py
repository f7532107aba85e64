"""The watermark of a slot, or of a lane: below it no row is alive, and none can appear any more.

PostgreSQL, MariaDB and MySQL keep deleted rows as long as any old snapshot might look at them. While a backup or a
forgotten transaction holds one open, every fetch that begins at the slot's start wades through all that was sent since.
So the relay remembers, in memory only, from where to look: the lowest row that is alive, or above a mark, which is the
highest position seen in the slot some time before, when there is none. Rows that enter a slot later (what was
scheduled, what is replayed) draw new positions. What remains is to know of rows that are not committed yet.

PostgreSQL: a transaction draws its id before the position of a row (the column `xid` stands first). So with a fence, a
transaction id drawn after the mark was seen, every transaction that drew a position up to the mark has an id below the
fence. Once the oldest running transaction is younger, all of them have ended, and what they left is visible.
`pg_snapshot_xmax` would not do for a fence: it is the id after the last transaction that has *ended*, and one that
still runs may be above it and have drawn a position below the mark.

MariaDB and MySQL: READ UNCOMMITTED sees a row as soon as it is inserted, which is when its statement has drawn the
position. Between the two lies no more than a stall of the server; the mark is older than a second, and what a longer
stall has hidden is looked for once a minute. It does not see a row whose removal is not committed, and may never be: so
what is committed is looked at as well, after it.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, bindparam, func, select, text

from mediator.storage.columns import MYSQL
from mediator.storage.database import Database

__all__ = ["Watermarks"]

_DRAW = text("SELECT pg_current_xact_id()::text::bigint")
_OLDEST_RUNNING = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_COMPLETE_LOOK_SECONDS = 60


class Watermarks:
    """The watermarks of an outbox, or of a group's deliveries, on a server."""

    def __init__(self, database: Database, slot: Column[Any] | None = None, *of_these: ColumnElement[bool]) -> None:
        """`slot` is the column that says where a row waits; only rows are looked at that fulfil `of_these`."""
        slot = database.tables.outbox.c.slot if slot is None else slot
        position = slot.table.c.position
        self._database, self._is_mysql = database, database.dialect in MYSQL
        self._lowest = select(func.min(position)).where(
            *of_these, slot == bindparam("slot"), position >= bindparam("low", type_=BigInteger())
        )
        self._low: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._marks: dict[int, int] = {}
        self._fence, self._complete_look_at = 0, 0.0

    def of(self, slot: int) -> int:
        """From which position on rows of a slot may be alive."""
        return self._low.get(slot, 0)

    def saw(self, slot: int, position: int) -> None:
        """A row was fetched."""
        self._seen[slot] = max(self._seen.get(slot, 0), position)

    def forget(self, slots: Collection[int]) -> None:
        """Others relay these slots now."""
        for slot in slots:
            for kept in (self._low, self._seen, self._marks):
                kept.pop(slot, None)

    async def advance(self) -> None:
        """Raise the watermarks as far as is proved. Call it once a second."""
        if self._is_mysql and asyncio.get_running_loop().time() >= self._complete_look_at:
            await self._look_below()
        if not self._marks:
            marks = {slot: seen for slot, seen in self._seen.items() if seen >= self.of(slot)}
            if marks and not self._is_mysql:
                async with self._database.begin() as connection:
                    self._fence = (await connection.execute(_DRAW)).scalar_one()
            self._marks = marks
            return
        if not self._is_mysql:
            async with self._database.read() as connection:
                if (await connection.execute(_OLDEST_RUNNING)).scalar_one() <= self._fence:
                    return
        marks = dict(self._marks)
        for slot, alive in (await self._alive({slot: self.of(slot) for slot in marks})).items():
            if slot in self._marks:
                self._low[slot] = min([marks[slot] + 1, *alive])
        self._marks = {}

    async def _look_below(self) -> None:
        for slot, alive in (await self._alive(dict.fromkeys(self._low, 0))).items():
            if slot in self._low:
                self._low[slot] = min([self._low[slot], *alive])
        self._complete_look_at = asyncio.get_running_loop().time() + _COMPLETE_LOOK_SECONDS

    async def _alive(self, lows: Mapping[int, int]) -> Mapping[int, Collection[int]]:
        """By slot, the lowest rows from a position on; on MariaDB with and without what is not committed."""
        found: dict[int, list[int]] = {slot: [] for slot in lows}
        for look in (self._database.uncommitted, self._database.read) if self._is_mysql else (self._database.read,):
            async with look() as connection:
                for slot, low in lows.items():
                    position = await connection.scalar(self._lowest, {"slot": slot, "low": low})
                    found[slot].extend([] if position is None else [position])
        return found
