"""Statements on deliveries: the copies of envelopes that wait until their groups have settled them (sql://).

    publish   insert a row for each envelope and group, in one statement
    fetch     of each lane what comes first, but those that are held by the owner of the lane
    remove    exactly the rows that were acknowledged

There is no cursor: what is here is not settled. So a row that commits late, with whatever position, is found by the
next look. A lane has one owner at a time, so no row needs a lease. Each lane is walked along by itself: sorting what
waits in several of them would read it all.

Whether a row was handed out before, by somebody who died since, has to be known. Marking each row would cost as much as
inserting it did. Instead a lane's row in the table `lanes` says up to which position its owner may have handed out what
is there. It is written before anything is handed out, once for many rows; who takes the lane counts an attempt for what
is left of that. (A row that committed late below the mark is counted as well, though nobody saw it: it is only handled
with more care.)
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    SmallInteger,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import MYSQL, none_of, one_of
from mediator.storage.database import Database
from mediator.storage.tables import Tables
from mediator.storage.watermark import Watermarks

__all__ = ["GroupDeliveries", "Place", "insert_deliveries", "remove_deliveries", "waiting_deliveries"]

_CARRIED = ("lane", "position", "event_id", "topic", "partition_key", "headers", "body", "attempts")

Place: TypeAlias = tuple[int, int]
"""Lane and position of a row."""


async def insert_deliveries(tables: Tables, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in their order."""
    await connection.execute(insert(tables.deliveries).inline(), rows)


async def waiting_deliveries(database: Database, groups: Collection[str]) -> Mapping[str, int]:
    """How many wait for each of these groups, if there are any."""
    row = database.tables.deliveries.c
    of_these = one_of(row.group_name, "groups", database.dialect)
    counted = select(row.group_name, func.count()).where(of_these).group_by(row.group_name)
    async with database.read() as connection:
        return {group: count for group, count in await connection.execute(counted, {"groups": list(groups)})}  # noqa: C416


async def remove_deliveries(database: Database, group: str, batch: int) -> int:
    """Remove some of what waits for a group; gives how many rows, none when nothing is left."""
    row, deliveries = database.tables.deliveries.c, GroupDeliveries(database, group)
    some = select(row.lane, row.position).where(row.group_name == group).limit(batch)
    async with database.read() as connection:
        places = [(lane, position) for lane, position in await connection.execute(some)]
    if places:
        await deliveries.note(places, {})
    return len(places)


class GroupDeliveries:
    """What waits for one group."""

    def __init__(self, database: Database, group: str) -> None:
        self._database, self._tables, self._group = database, database.tables, group
        row, lane, dialect = self._tables.deliveries.c, self._tables.lanes.c, database.dialect
        is_ours = row.group_name == bindparam("of_group", group)
        self._watermarks = Watermarks(database, row.lane, is_ours) if dialect != "sqlite" else None
        self._fetches: dict[int, Any] = {}
        in_lane = (lane.group_name == group, lane.lane == bindparam("of_lane"))
        to = bindparam("to", type_=BigInteger())
        self._raise: Any = update(self._tables.lanes).where(*in_lane, lane.fetched_to < to).values(fetched_to=to)
        self._lower = (
            update(self._tables.lanes)
            .where(*in_lane, lane.fetched_to == bindparam("marked", type_=BigInteger()))
            .values(fetched_to=to)
        )
        self._marked = select(lane.lane, lane.fetched_to).where(
            lane.group_name == group, one_of(lane.lane, "lanes", dialect), lane.fetched_to > 0
        )
        self._count = (
            update(self._tables.deliveries)
            .where(is_ours, row.lane == bindparam("of_lane"), row.position <= to)
            .values(attempts=row.attempts + 1)
        )
        if dialect in MYSQL:
            self._raise = self._raising()
        self._remove = self._removal()

    async def fetch(self, lanes: Mapping[int, Collection[int]], of_each: int) -> Sequence[RowMapping]:
        """The first rows of each lane, so many at most, without the positions that are held there."""
        if len(lanes) not in self._fetches:
            self._fetches[len(lanes)] = self._fetch_of(len(lanes))
        parameters: dict[str, Any] = {"of_each": of_each}
        for number, (lane, held) in enumerate(lanes.items()):
            low = 0 if self._watermarks is None else self._watermarks.of(lane)
            parameters |= {f"lane_{number}": lane, f"low_{number}": low, f"held_{number}": list(held)}
        async with self._database.read() as connection:
            rows = (await connection.execute(self._fetches[len(lanes)], parameters)).mappings().all()
        if self._watermarks is not None:
            for row in rows:
                self._watermarks.saw(row["lane"], row["position"])
        return rows

    async def take_over(self, lanes: Collection[int]) -> None:
        """Count an attempt for what the former owner of these lanes may have handed out and has not settled."""
        async with self._database.read() as connection:
            if not (await connection.execute(self._marked, {"lanes": list(lanes)})).all():
                return
        async with self._database.begin() as connection:
            marked = (await connection.execute(self._marked.with_for_update(), {"lanes": list(lanes)})).all()
            for lane, to in marked:
                await connection.execute(self._count, {"of_lane": lane, "to": to})
                await connection.execute(self._lower, {"of_lane": lane, "marked": to, "to": 0})

    async def note(
        self,
        acknowledged: Collection[Place],
        handed_to: Mapping[int, int],
        lowered: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        """Remove exactly these rows; write down up to where lanes are handed out from now on.

        `lowered` takes back a mark, from the one that was set to another, for a lane that is given up in order.
        Not waiting for the disk on PostgreSQL: a removal that a crash takes back makes a duplicate, nothing more; and
        of a mark, the crash of the server is the only one that it would not be there to tell of.
        """
        if not (acknowledged or handed_to or lowered):
            return
        async with self._database.begin() as connection:
            if self._database.dialect == "postgresql":
                await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            if acknowledged:
                await connection.execute(self._remove, self._chosen(acknowledged))
            if handed_to:
                await connection.execute(self._raise, self._marks(handed_to))
            if lowered:
                marks = [{"of_lane": lane, "marked": old, "to": to} for lane, (old, to) in sorted(lowered.items())]
                await connection.execute(self._lower, marks)

    async def advance_watermarks(self) -> None:
        """Remember from where to look (storage/watermark.py)."""
        if self._watermarks is not None:
            await self._watermarks.advance()

    def disown(self, lanes: Collection[int]) -> None:
        """Others own these lanes now: what was remembered of them may become wrong."""
        if self._watermarks is not None:
            self._watermarks.forget(lanes)

    def _fetch_of(self, lanes: int) -> Any:
        """One SELECT that walks along so many lanes, each by itself."""
        deliveries, dialect = self._tables.deliveries, self._database.dialect
        row, hinted = deliveries.c, dialect if dialect in MYSQL else "nobody"
        branches = []
        for number in range(lanes):
            above: list[ColumnElement[bool]] = []
            if self._watermarks is not None:
                above.append(row.position >= bindparam(f"low_{number}", type_=BigInteger()))
            branch = (
                select(*(row[name] for name in _CARRIED))
                .where(
                    row.group_name == bindparam("of_group", self._group),
                    row.lane == bindparam(f"lane_{number}", type_=SmallInteger()),
                    *above,
                    none_of(row.position, f"held_{number}", dialect),
                )
                .order_by(row.position)
                .limit(bindparam("of_each", type_=Integer()))
                .with_hint(deliveries, "FORCE INDEX (PRIMARY)", hinted)
            )
            # SQLite takes no parentheses around the parts of a union, and without them the limit would be the whole's.
            branches.append(select(branch.subquery(f"lane_{number}")) if dialect == "sqlite" else branch)
        return union_all(*branches) if lanes > 1 else branches[0]

    def _removal(self) -> Any:
        deliveries, row = self._tables.deliveries, self._tables.deliveries.c
        is_ours = row.group_name == bindparam("of_group", self._group)
        if self._database.dialect == "sqlite":
            return delete(deliveries).where(one_of(row.position, "positions", "sqlite"))
        if self._database.dialect == "postgresql":
            in_lane = row.lane == bindparam("of_lane", type_=SmallInteger())
            return delete(deliveries).where(is_ours, in_lane, one_of(row.position, "positions", "postgresql"))
        # Left to itself MariaDB may scan, and then it waits for rows that others have not committed.
        rows = (
            "DELETE d FROM JSON_TABLE(:places, '$[*]' COLUMNS (lane INT PATH '$[0]', position BIGINT PATH '$[1]'))"
            f" AS chosen STRAIGHT_JOIN {deliveries.fullname} AS d FORCE INDEX (PRIMARY)"
            " ON d.group_name = :of_group AND d.lane = chosen.lane AND d.position = chosen.position"
        )
        return text(rows).bindparams(bindparam("places", type_=JSON()), bindparam("of_group", self._group))

    def _raising(self) -> Any:
        """For MariaDB and MySQL, whose driver would wait for an answer between one lane and the next."""
        rows = (
            "UPDATE JSON_TABLE(:marks, '$[*]' COLUMNS (lane INT PATH '$[0]', top BIGINT PATH '$[1]'))"  # noqa: S608 - our names
            f" AS chosen STRAIGHT_JOIN {self._tables.lanes.fullname} AS l FORCE INDEX (PRIMARY)"
            " ON l.group_name = :of_group AND l.lane = chosen.lane"
            " SET l.fetched_to = GREATEST(l.fetched_to, chosen.top)"
        )
        return text(rows).bindparams(bindparam("marks", type_=JSON()), bindparam("of_group", self._group))

    def _marks(self, handed_to: Mapping[int, int]) -> Any:
        marks = sorted(handed_to.items())
        if self._database.dialect in MYSQL:
            return {"marks": [list(mark) for mark in marks]}
        return [{"of_lane": lane, "to": to} for lane, to in marks]

    def _chosen(self, places: Iterable[Place]) -> Any:
        # In the order of the key, so that two who remove the same rows do not wait for each other crosswise.
        chosen = sorted(places)
        if self._database.dialect in MYSQL:
            return {"places": [list(place) for place in chosen]}
        if self._database.dialect == "sqlite":
            return {"positions": [position for _, position in chosen]}
        # A join of both numbers would make PostgreSQL read all of the table, unless that is very large.
        return [
            {"of_lane": lane, "positions": [position for _, position in of_lane]}
            for lane, of_lane in groupby(chosen, key=itemgetter(0))
        ]
