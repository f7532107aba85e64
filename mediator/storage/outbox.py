"""Statements on the outbox and its history.

Rows leave the outbox by being deleted, never marked: marking costs three to four times as much and makes every fetch
wade through the past. Fetching selects on state; there is no cursor, so a transaction that commits late with a lower
position is seen by the next fetch all the same.

A row is named by its key, (slot, position): every statement walks along the one index.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias, cast
from uuid import UUID
from zlib import crc32

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    Table,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import CursorResult, RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import MYSQL, MYSQL_NOW, Moment, database_now, milliseconds, none_of, one_of
from mediator.storage.database import Database
from mediator.storage.tables import Tables
from mediator.storage.watermark import Watermarks

__all__ = [
    "SLOTS",
    "Key",
    "OutboxInsert",
    "OutboxTable",
    "by_slot",
    "due_at",
    "insert_statement",
    "key_of",
    "removal",
    "slot_of",
    "walking_the_key",
]

SLOTS = 16
"""Shares of the partition keys; each is relayed by one relay at a time."""

_CARRIED = (
    "slot",
    "position",
    "event_id",
    "topic",
    "type",
    "version",
    "partition_key",
    "body",
    "headers",
    "source",
    "occurred_on",
    "attempts",
    "correlation_id",
    "causation_id",
    "traceparent",
    "module",
)
"""What a relay needs of a row; reading all of them would cost it a third of its time."""

_WHEN = frozenset(("delay", "at"))

Key: TypeAlias = tuple[int, int]
"""Slot and position of a row."""


def slot_of(key: str | None, event_id: UUID, *, scheduled: bool = False) -> int:
    """The slot of a row: by partition key, or spread by id when there is no key and so no order to keep."""
    slot = crc32(key.encode() if key is not None else event_id.bytes) % SLOTS
    return -1 - slot if scheduled else slot


def key_of(row: RowMapping) -> Key:
    """What names a row."""
    return row["slot"], row["position"]


def due_at() -> ColumnElement[Any]:
    """When a row is due: at the moment `at`, or `delay` milliseconds from now; both are None when it does not wait."""
    after_delay = database_now() + bindparam("delay", type_=BigInteger())
    return func.coalesce(bindparam("at", type_=Moment()), after_delay)


def insert_statement(tables: Tables) -> Any:
    """One INSERT, executed with a list of rows; each of them has `delay` and `at`, as `due_at` takes them."""
    return insert(tables.outbox).inline().values(due_at=due_at())


class OutboxInsert:
    """Inserts rows; each of them has `delay` and `at`, as `due_at` takes them."""

    def __init__(self, tables: Tables) -> None:
        self._scheduled = insert_statement(tables)
        # The driver of MySQL joins the rows into one statement only if their values are nothing but parameters.
        self._due_at_once = insert(tables.outbox).inline()

    async def execute(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert `rows` in their order."""
        if any(row["slot"] < 0 for row in rows):
            await connection.execute(self._scheduled, rows)
        else:
            plain = [{name: value for name, value in row.items() if name not in _WHEN} for row in rows]
            await connection.execute(self._due_at_once, plain)


class OutboxTable:
    """What the relay does to the outbox of one database."""

    def __init__(self, database: Database) -> None:
        self._database, self._tables, dialect = database, database.tables, database.dialect
        self._watermarks = Watermarks(database) if dialect != "sqlite" else None
        outbox, row = self._tables.outbox, self._tables.outbox.c
        on_mysql = dialect in MYSQL
        hinted = dialect if on_mysql else "nobody"
        in_slot, chosen = row.slot == bindparam("of_slot"), one_of(row.position, "positions", dialect)
        at_most = bindparam("at_most", type_=BigInteger())
        waiting = outbox.alias("waiting")
        # In the same statement: between two of them a row may be refused, and what comes after it would be let through.
        waiting_keys = (
            select(waiting.c.partition_key)
            .distinct()
            .where(
                waiting.c.slot == bindparam("of_slot"),
                waiting.c.next_attempt_at > database_now(),
                waiting.c.partition_key.is_not(None),
            )
            # Distinct and hinted: where MariaDB takes the slot for empty, it would walk along all of it for every row.
            .with_hint(waiting, f"FORCE INDEX ({self._tables.prefix}outbox_waiting)", hinted)
            .subquery()
        )
        has_turn = none_of(row.partition_key, "keys", dialect) & row.partition_key.not_in(select(waiting_keys))
        self._fetch = (
            select(*(row[name] for name in _CARRIED))
            .where(
                in_slot,
                *self._above_watermark("low"),
                or_(row.next_attempt_at.is_(None), row.next_attempt_at <= database_now()),
                none_of(row.position, "positions", dialect),
                or_(row.partition_key.is_(None), has_turn),
            )
            .order_by(row.position)
            .limit(at_most)
            .with_hint(outbox, "FORCE INDEX (PRIMARY)", hinted)
        )
        self._filled: Any = union_all(
            *(
                select(literal_column(str(slot)).label("slot")).where(
                    select(row.position).where(row.slot == slot, *self._above_watermark(f"low_{slot}")).exists()
                )
                for slot in range(SLOTS)
            )
        )
        more = bindparam("change", type_=Integer())
        self._change_attempts: Any = update(outbox).where(in_slot, chosen).values(attempts=row.attempts + more)
        self._copy = self._ignoring_known(in_slot, chosen)
        self._delete = removal(self._tables)
        if on_mysql:
            self._change_attempts = walking_the_key(outbox, "UPDATE {rows} SET o.attempts = o.attempts + :change")

    async def fetch(
        self, slot: int, at_most: int, *, without: Collection[Key], without_keys: Collection[str]
    ) -> Sequence[RowMapping]:
        """Due rows of a slot in order, but those in flight and those whose key waits for a retry."""
        parameters = {
            "of_slot": slot,
            "at_most": at_most,
            "low": self._low(slot),
            "positions": [position for at, position in without if at == slot],
            "keys": list(without_keys),
        }
        async with self._database.read() as connection:
            rows = (await connection.execute(self._fetch, parameters)).mappings().all()
        if rows and self._watermarks is not None:
            self._watermarks.saw(slot, rows[-1]["position"])
        return rows

    async def filled_slots(self) -> Collection[int]:
        """The slots that hold rows, due or not."""
        lows = {f"low_{slot}": self._low(slot) for slot in range(SLOTS)} if self._watermarks is not None else {}
        async with self._database.read() as connection:
            return set((await connection.execute(self._filled, lows)).scalars())

    async def record_attempts(self, keys: Iterable[Key], change: int = 1) -> None:
        """Count an attempt before rows are handed out (or take it back), so that a row that kills is found out."""
        async with self._database.begin() as connection:
            for chosen in by_slot(keys):
                await connection.execute(self._change_attempts, {**chosen, "change": change})

    async def complete(self, keys: Iterable[Key], *, keep_history: bool) -> None:
        """Remove exactly these rows, which the transport confirmed, and copy them to the history.

        Not waiting for the disk on PostgreSQL: a removal that a crash takes back makes a duplicate, nothing more.
        """
        async with self._database.begin() as connection:
            if self._database.dialect == "postgresql":
                await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            for chosen in by_slot(keys):
                if keep_history:
                    await connection.execute(self._copy, chosen)
                await connection.execute(self._delete, chosen)

    async def refuse(self, key: Key, attempts: int, delay: timedelta, error: str) -> None:
        """Set a row aside until its next attempt."""
        outbox = self._tables.outbox
        async with self._database.begin() as connection:
            await connection.execute(
                update(outbox)
                .where(*self._is(key))
                .values(attempts=attempts, next_attempt_at=database_now() + milliseconds(delay), last_error=error)
            )

    async def remove(self, connection: AsyncConnection, key: Key) -> bool:
        """Remove one row in the transaction that stores it as a dead letter; False when it was gone."""
        result = await connection.execute(delete(self._tables.outbox).where(*self._is(key)))
        return cast("CursorResult[Any]", result).rowcount == 1

    async def pending(self, connection: AsyncConnection) -> Mapping[str, int]:
        """How many rows wait to be sent, and how many are scheduled for later."""
        is_scheduled = (self._tables.outbox.c.slot < 0).label("is_scheduled")
        rows = await connection.execute(select(is_scheduled, func.count()).group_by(is_scheduled))
        counts = {bool(scheduled): count for scheduled, count in rows}
        return {"outbox rows": counts.get(False, 0), "scheduled events": counts.get(True, 0)}

    async def advance_watermarks(self) -> None:
        """Remember from where to look (storage/watermark.py)."""
        if self._watermarks is not None:
            await self._watermarks.advance()

    def disown(self, slots: Collection[int]) -> None:
        """Others relay these slots now: what was remembered of them may become wrong."""
        if self._watermarks is not None:
            self._watermarks.forget(slots)

    def _low(self, slot: int) -> int:
        return 0 if self._watermarks is None else self._watermarks.of(slot)

    def _above_watermark(self, parameter: str) -> list[ColumnElement[bool]]:
        if self._watermarks is None:
            return []
        return [self._tables.outbox.c.position >= bindparam(parameter, type_=BigInteger())]

    def _is(self, key: Key) -> tuple[ColumnElement[bool], ...]:
        row = self._tables.outbox.c
        return row.slot == key[0], row.position == key[1]

    def _ignoring_known(self, *conditions: ColumnElement[bool]) -> Any:
        """Copy rows to the history: an event that is published again under its id is there already."""
        outbox, sent, dialect = self._tables.outbox, self._tables.sent, self._database.dialect
        # Every column of the history but the moment of sending is a column of the outbox.
        copied = [column.name for column in sent.c if column.name != "sent_at"]
        rows = select(*(outbox.c[name] for name in copied), database_now()).where(*conditions)
        names = [*copied, "sent_at"]
        if dialect == "postgresql":
            return postgresql.insert(sent).from_select(names, rows).on_conflict_do_nothing()
        if dialect == "sqlite":
            return insert(sent).from_select(names, rows).prefix_with("OR IGNORE")
        return mysql.insert(sent).from_select(names, rows).on_duplicate_key_update(event_id=sent.c.event_id)


def removal(tables: Tables) -> Any:
    """One DELETE of the rows of a slot, `of_slot`, at `positions`."""
    if tables.dialect in MYSQL:
        return walking_the_key(tables.outbox, "DELETE o FROM {rows}")
    outbox, row = tables.outbox, tables.outbox.c
    return delete(outbox).where(row.slot == bindparam("of_slot"), one_of(row.position, "positions", tables.dialect))


def walking_the_key(outbox: Table, statement: str) -> TextClause:
    """A statement on chosen rows `o` that looks at no others.

    Left to itself MariaDB may scan, and then it waits for rows that other transactions have inserted and not committed.
    """
    rows = (
        "JSON_TABLE(:positions, '$[*]' COLUMNS (position BIGINT PATH '$')) AS chosen"
        f" STRAIGHT_JOIN {outbox.fullname} AS o FORCE INDEX (PRIMARY)"
        " ON o.slot = :of_slot AND o.position = chosen.position"
    )
    return text(statement.format(rows=rows, now=MYSQL_NOW)).bindparams(bindparam("positions", type_=JSON()))


def by_slot(keys: Iterable[Key]) -> list[dict[str, Any]]:
    """Parameters of one statement for each slot."""
    return [
        {"of_slot": slot, "positions": [position for _, position in group]}
        for slot, group in groupby(sorted(keys), key=itemgetter(0))
    ]
