"""The inbox in partitions, on PostgreSQL: a day of expired rows goes as a whole instead of row by row.

A UUIDv7 begins with the millisecond at which it was made. So a range of event ids is a range of time:

    mediator_inbox_202511220000   the ids of one `inbox_partition`; the cleaner makes them, three ahead
    mediator_inbox_foreign        from the year 2100 on, which is where 98 % of the ids that are no UUIDv7 lie
    mediator_inbox_default        all others: events that come late, strays, and everything when nobody makes partitions
    mediator_inbox_before         what was the inbox before it had partitions, if a person converted it

Claims do not wait for any of this, or not for long. Every step is a short transaction that gives up when a lock is not
free within 200 ms, and is tried again with the next cleaning:

    make    a claim under way does not hinder it; it needs the default partition alone, to move the few rows out of it
            that belong into the new one. Where there are many, that range is left to the default partition.
    empty   when all that was handled in time has expired: TRUNCATE. What was handled late, or what a parked delivery
            needs, is put back in the same transaction. Claims have nothing to do with a partition that old.
    drop    the empty shell, and rows that are left move to the default partition, where claims find them. This needs
            the whole inbox for a moment.

The default and foreign partitions are cleaned in batches as ever (storage/retention.py), and so is one that could not
be emptied for as long as it lasted, because more rows than one batch have to stay.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, MetaData, Table, and_, func, insert, literal, or_, select, text, true, union
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import SchemaError
from mediator.storage.columns import database_now, milliseconds
from mediator.storage.database import Database
from mediator.storage.postgresql import lock_number
from mediator.storage.tables import Tables

__all__ = [
    "complete_partitions",
    "left_to_batches",
    "partition_ddl",
    "tend_partitions",
    "verify_partitions",
]

log = structlog.get_logger(__name__)
_AHEAD = 3
_FOREIGN = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1_000
_LOCK_PATIENCE_MS, _STATEMENT_PATIENCE_MS = 200, 2_000
_LATER = {
    "55P03",  # a lock is not free
    "57014",  # it took too long
    "40P01",  # deadlock
}
_NOT_ALLOWED = "42501"
_RANGE = re.compile(r"FOR VALUES FROM \('([-0-9a-f]+)'\) TO \('([-0-9a-f]+)'\)")
_KEY = "RANGE (event_id)"


@dataclass(frozen=True, slots=True)
class _Range:
    """A partition for the ids of a time, in milliseconds since 1970."""

    schema: str
    name: str
    begin: int
    end: int


def partition_ddl(tables: Tables) -> Sequence[str]:
    """What is there from the beginning: with it, every id has its place."""
    if not tables.partitioned_inbox:
        return ()
    inbox = tables.inbox.fullname
    from_foreign = f"FOR VALUES FROM ('{_first_id(_FOREIGN)}') TO (MAXVALUE)"
    return (
        f"CREATE TABLE IF NOT EXISTS {inbox}_default PARTITION OF {inbox} DEFAULT",
        f"CREATE TABLE IF NOT EXISTS {inbox}_foreign PARTITION OF {inbox} {from_foreign}",
    )


async def complete_partitions(connection: AsyncConnection, tables: Tables) -> None:
    """Make those that are there from the beginning, unless the inbox is a plain table from before."""
    if tables.partitioned_inbox and await _partition_key(connection, tables) == _KEY:
        for statement in partition_ddl(tables):
            await connection.exec_driver_sql(statement)


async def verify_partitions(connection: AsyncConnection, database: Database) -> None:
    """Raise SchemaError when the inbox is not what the setting `inbox_partition` says."""
    tables = database.tables
    if database.dialect != "postgresql":
        return
    name, key = tables.inbox.fullname, await _partition_key(connection, tables)
    convert = "convert the table as docs/how-to/partitions.md shows"
    if tables.partitioned_inbox and key != _KEY:
        what = f"{name} is {f'partitioned by {key}' if key else 'a table without partitions'}"
        fix = f"Leave RetentionSettings(inbox_partition=...) out, or {convert}"
        raise SchemaError(database.name, what, fix)
    if key and not tables.partitioned_inbox:
        fix = f"Set RetentionSettings(inbox_partition=...), or {convert}"
        raise SchemaError(database.name, f"{name} is partitioned", fix)
    if key and (await _found(connection, tables))[1] is None:
        fix = "Apply the statement that app.ddl() has for it"
        raise SchemaError(database.name, f"{name} has no default partition", fix)


async def tend_partitions(database: Database, interval: timedelta, older_than: timedelta, batch: int) -> int:
    """Make the partitions that are needed soon, empty and drop those that are over; gives the number of rows gone.

    Does nothing while another process is at it.
    """
    if not database.tables.partitioned_inbox:
        return 0
    number = lock_number("partitions", database.tables.inbox.fullname)
    async with database.dedicated() as connection:
        if not await connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), {"number": number}):
            return 0
        return await _tend(database, interval, older_than, batch)


async def _tend(database: Database, interval: timedelta, older_than: timedelta, batch: int) -> int:
    ranges, now = await _ranges(database)
    for begin, end in _gaps(ranges, now, milliseconds(interval)):
        await _tried("make", _make(database, begin, end, batch))
    removed, may_drop = 0, True
    for over in ranges:
        if over.end < now - milliseconds(older_than):
            removed += await _tried("empty", _empty(database, over, older_than, batch)) or 0
            # Every try lets claims wait for a moment, so one that fails is the last for now.
            may_drop = may_drop and await _tried("drop", _drop(database, over, batch)) is not None
    return removed


async def left_to_batches(database: Database, older_than: timedelta) -> ColumnElement[bool]:
    """Whether an inbox row is in no partition that is going to be emptied, or ought to have been long ago."""
    event_id = database.tables.inbox.c.event_id
    ranges, now = await _ranges(database)
    spans: list[tuple[int, int]] = []
    for one in ranges:
        # The table of before, which became a partition, may be for a very long time.
        grace = min(one.end - one.begin, milliseconds(older_than))
        if one.end + grace >= now - milliseconds(older_than):
            # Neighbours as one condition: PostgreSQL then sees which partitions it need not look at.
            begin = spans.pop()[0] if spans and spans[-1][1] == one.begin else one.begin
            spans.append((begin, one.end))
    outside = [or_(event_id < _first_id(begin), event_id >= _first_id(end)) for begin, end in spans]
    return and_(true(), *outside)


def _gaps(ranges: Sequence[_Range], now: int, width: int) -> Iterator[tuple[int, int]]:
    """What has no partition yet of the present interval and of those ahead; none goes across a multiple of `width`."""
    begin = now - now % width
    last = begin + (1 + _AHEAD) * width
    while begin < last:
        there = next((one for one in ranges if one.begin <= begin < one.end), None)
        if there is not None:
            begin = there.end
            continue
        end = min([begin - begin % width + width, *(one.begin for one in ranges if one.begin > begin)])
        yield begin, end
        begin = end


async def _make(database: Database, begin: int, end: int, batch: int) -> None:
    tables = database.tables
    inbox = tables.inbox.fullname
    new = f"{inbox}_{_moment(begin):%Y%m%d%H%M}"
    columns = ", ".join(column.name for column in tables.inbox.columns)
    within = f"event_id >= '{_first_id(begin)}' AND event_id < '{_first_id(end)}'"
    async with _brief(database) as connection:
        await connection.exec_driver_sql(f"LOCK TABLE ONLY {inbox} IN SHARE UPDATE EXCLUSIVE MODE")
        _ranges, default = await _found(connection, tables)
        if default is not None:
            some = f"SELECT 1 FROM {default} WHERE {within} LIMIT {batch + 1}"  # noqa: S608 - no input
            strays = await connection.exec_driver_sql(f"SELECT count(*) FROM ({some}) AS strays")  # noqa: S608
            if strays.scalar_one() > batch:
                log.info("partition.left_out", begin=_moment(begin).isoformat(), end=_moment(end).isoformat())
                return
        await connection.exec_driver_sql(f"CREATE TABLE {new} (LIKE {inbox} INCLUDING DEFAULTS)")
        if default is not None:
            await connection.exec_driver_sql(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE")
            await connection.exec_driver_sql(
                f"WITH moved AS (DELETE FROM {default} WHERE {within} RETURNING {columns})"  # noqa: S608 - no input
                f" INSERT INTO {new} ({columns}) SELECT {columns} FROM moved"
            )
        bounds = f"FROM ('{_first_id(begin)}') TO ('{_first_id(end)}')"
        await connection.exec_driver_sql(f"ALTER TABLE {inbox} ATTACH PARTITION {new} FOR VALUES {bounds}")
    log.info("partition.made", partition=new)


async def _empty(database: Database, over: _Range, older_than: timedelta, batch: int) -> int:
    rows, parked = _table(database, over), database.tables.parked
    async with database.read() as connection:
        before = await connection.scalar(select(func.count()).select_from(rows)) or 0
    if before <= batch:
        return 0
    needed = and_(parked.c.subscriber_id == rows.c.subscriber_id, parked.c.event_id == rows.c.event_id)
    kept = union(
        select(rows).where(rows.c.processed_at >= database_now() - milliseconds(older_than)),
        select(rows).join(parked, needed),
    ).limit(batch + 1)
    async with _brief(database) as connection:
        await connection.exec_driver_sql(f"LOCK TABLE {rows.fullname} IN ACCESS EXCLUSIVE MODE")
        put_back = [dict(row) for row in (await connection.execute(kept)).mappings()]
        if len(put_back) > batch:
            return 0
        await connection.exec_driver_sql(f"TRUNCATE TABLE {rows.fullname}")
        if put_back:
            await connection.execute(insert(rows), put_back)
    log.info("partition.emptied", partition=over.name, rows=before - len(put_back), put_back=len(put_back))
    return before - len(put_back)


async def _drop(database: Database, over: _Range, batch: int) -> bool:
    inbox, rows = database.tables.inbox, _table(database, over)
    some = select(func.count()).select_from(select(literal(1)).select_from(rows).limit(batch + 1).subquery())
    async with database.read() as connection:
        if (await connection.scalar(some) or 0) > batch:
            return False
    async with _brief(database) as connection:
        await connection.exec_driver_sql(f"LOCK TABLE ONLY {inbox.fullname} IN ACCESS EXCLUSIVE MODE")
        await connection.exec_driver_sql(f"ALTER TABLE {inbox.fullname} DETACH PARTITION {rows.fullname}")
        left = await connection.execute(insert(inbox).from_select([column.name for column in rows.c], select(rows)))
        await connection.exec_driver_sql(f"DROP TABLE {rows.fullname}")
    log.info("partition.dropped", partition=over.name, rows_moved=left.rowcount)
    return True


@asynccontextmanager
async def _brief(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that gives up rather than let others wait."""
    async with database.begin() as connection:
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_PATIENCE_MS}")
        await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_STATEMENT_PATIENCE_MS}")
        yield connection


async def _tried(step: str, work: Awaitable[int | None]) -> int | None:
    """What a step gives; None when it has to wait for the next cleaning."""
    try:
        return await work or 0
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _LATER:
            log.info("partition.postponed", step=step, reason=str(error.orig))
        elif state == _NOT_ALLOWED:
            fix = "let the user of the application own the inbox and create tables in its schema"
            log.warning("partition.not_allowed", step=step, reason=str(error.orig), fix=fix)
        else:
            raise
        return None


async def _partition_key(connection: AsyncConnection, tables: Tables) -> str | None:
    key = "SELECT pg_get_partkeydef(to_regclass(CAST(:inbox AS text)))"
    found: str | None = await connection.scalar(text(key), {"inbox": tables.inbox.fullname})
    return found


async def _ranges(database: Database) -> tuple[Sequence[_Range], int]:
    """The partitions for times, the oldest first, and the database's clock."""
    async with database.read() as connection:
        ranges, _default = await _found(connection, database.tables)
        return ranges, await connection.scalar(select(database_now())) or 0


async def _found(connection: AsyncConnection, tables: Tables) -> tuple[Sequence[_Range], str | None]:
    """The partitions for times, the oldest first, and the name of the default one."""
    catalog = text(
        "SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds FROM pg_inherits AS i"
        " JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE i.inhparent = to_regclass(CAST(:inbox AS text))"
    )
    ranges: list[_Range] = []
    default: str | None = None
    for schema, name, bounds in await connection.execute(catalog, {"inbox": tables.inbox.fullname}):
        if bounds == "DEFAULT":
            default = f'"{schema}"."{name}"'
        elif found := _RANGE.fullmatch(bounds):
            begin, end = (UUID(bound).int for bound in found.groups())
            # Bounds that somebody else set may lie within a millisecond.
            ranges.append(_Range(schema, name, begin >> 80, -(-end >> 80)))
    return sorted(ranges, key=lambda one: one.begin), default


def _table(database: Database, one: _Range) -> Table:
    return database.tables.inbox.to_metadata(MetaData(), schema=one.schema, name=one.name)


def _first_id(moment: int) -> UUID:
    """The lowest id that a UUIDv7 of this millisecond can have."""
    return UUID(int=moment << 80)


def _moment(moment: int) -> datetime:
    return datetime.fromtimestamp(moment / 1_000, UTC)
