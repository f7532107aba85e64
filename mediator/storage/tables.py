"""The toolkit's tables: one definition, copied under the prefix and schema that an application chose.

    outbox   what is committed and not yet sent          sent    what was sent, for people, for a day
    inbox    what a subscriber has taken charge of       parked  deliveries that wait, or are dead
    meta     version of these tables                     audit   what operators did
    locks    keys of commands, on MySQL and MariaDB

of the transport sql://

    routes   which group listens to what                 deliveries   published, and not yet settled by a group
    lanes    how far the lanes of a group were handed out

Scheduled outbox rows wait in slots of their own, `-1 - slot`, so that fetching what is due never reads past them.

The key of the outbox is (slot, position), that of the deliveries (group, lane, position): who reads them walks along it
and needs no other index. SQLite numbers rows only in a key of one column. PostgreSQL keeps the id of the writing
transaction, drawn before the position: whoever knows that all transactions up to an id have ended knows that no row
below a position can appear any more (storage/watermark.py).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import registry
from sqlalchemy.schema import SchemaItem
from sqlmodel import Field, SQLModel

from mediator.errors import SettingsError
from mediator.storage.columns import MYSQL, Bytes, EventId, Hash, LongText, Moment, Position, database_now

__all__ = [
    "SCHEMA_VERSION",
    "AuditRow",
    "DeliveryRow",
    "InboxRow",
    "LaneRow",
    "LockRow",
    "MetaRow",
    "OutboxRow",
    "ParkedRow",
    "RouteRow",
    "SentRow",
    "Tables",
]

SCHEMA_VERSION = "3"
_MYSQL_OPTIONS = {
    f"{dialect}_{option}": value
    for dialect in MYSQL
    # Compared byte by byte: with the server's default, keys that differ in case or accent would be the same.
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class _Rows(SQLModel, registry=registry()):
    """Base of the table definitions, with a MetaData of its own."""


def _position() -> Any:
    return Field(sa_column=Column(Position, Identity(), primary_key=True, autoincrement=True))


def _event_id(*, primary_key: bool = False) -> Any:
    return Field(sa_column=Column(EventId, primary_key=primary_key, nullable=False))


def _text(length: int | None = None, *, nullable: bool = False, primary_key: bool = False) -> Any:
    kind = String(length) if length else LongText
    return Field(sa_column=Column(kind, nullable=nullable, primary_key=primary_key))


def _moment(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(Moment, nullable=nullable))


def _bytes(kind: Any = Bytes) -> Any:
    return Field(sa_column=Column(kind, nullable=False))


def _small(default: int | None = None) -> Any:
    return Field(sa_column=Column(SmallInteger, nullable=False, default=default))


class _EventColumns(SQLModel):
    """What the outbox and the history keep of an event."""

    topic: str = Field(sa_type=String(249))
    type: str = Field(sa_type=String(160))
    version: str = Field(sa_type=String(16))
    partition_key: str | None = Field(sa_type=String(200))
    body: bytes = Field(sa_type=Bytes)
    headers: str = Field(sa_type=LongText)
    source: str = Field(sa_type=String(200))
    occurred_on: datetime = Field(sa_type=Moment)
    attempts: int = Field(sa_type=SmallInteger, default=0)
    correlation_id: str | None = Field(sa_type=String(200))
    causation_id: str | None = Field(sa_type=String(200))
    traceparent: str | None = Field(sa_type=String(64))
    module: str = Field(sa_type=String(100))
    cause: str = Field(sa_type=String(200))
    converter: str | None = Field(sa_type=String(200))
    domain_event_type: str | None = Field(sa_type=String(200))
    aggregate_type: str | None = Field(sa_type=String(200))
    aggregate_id: str | None = Field(sa_type=String(200))


class OutboxRow(_EventColumns, _Rows, table=True):
    """Committed and not yet sent."""

    __tablename__: ClassVar[Any] = "outbox"
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}
    slot: int = _small()
    position: int = _position()
    event_id: UUID = _event_id()
    due_at: datetime | None = _moment(nullable=True)
    next_attempt_at: datetime | None = _moment(nullable=True)
    last_error: str | None = _text(nullable=True)


class SentRow(_EventColumns, _Rows, table=True):
    """History: what left the outbox."""

    __tablename__: ClassVar[Any] = "sent"
    event_id: UUID = _event_id(primary_key=True)
    sent_at: datetime = _moment()


class InboxRow(_Rows, table=True):
    """A subscriber has taken charge of an event: it handled it, or parked it."""

    __tablename__: ClassVar[Any] = "inbox"
    subscriber_id: str = _text(100, primary_key=True)
    event_id: UUID = _event_id(primary_key=True)
    payload_hash: bytes = _bytes(Hash)
    processed_at: datetime = Field(sa_column=Column(Moment, nullable=False, default=database_now()))


class ParkedRow(_Rows, table=True):
    """A delivery that waits: for its retry, behind its key, or for a person."""

    __tablename__: ClassVar[Any] = "parked"
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}
    position: int = _position()
    subscriber_id: str = _text(100)
    event_id: UUID = _event_id()
    status: str = _text(16)
    reason: str = _text(40)
    attempts: int = _small(0)
    next_attempt_at: datetime | None = _moment(nullable=True)
    parked_at: datetime = Field(sa_column=Column(Moment, nullable=False, default=database_now()))
    died_at: datetime | None = _moment(nullable=True)
    topic: str = _text(249)
    partition_key: str | None = _text(200, nullable=True)
    headers: str = _text()
    body: bytes = _bytes()
    correlation_id: str | None = _text(200, nullable=True)
    error_type: str | None = _text(200, nullable=True)
    error: str | None = _text(nullable=True)
    traceback: str | None = _text(nullable=True)
    fingerprint: str | None = _text(32, nullable=True)
    history: str | None = _text(nullable=True)


class MetaRow(_Rows, table=True):
    """Facts about these tables."""

    __tablename__: ClassVar[Any] = "meta"
    name: str = _text(40, primary_key=True)
    value: str = _text(200)


class AuditRow(_Rows, table=True):
    """What an operator did."""

    __tablename__: ClassVar[Any] = "audit"
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}
    id: int = _position()
    at: datetime = Field(sa_column=Column(Moment, nullable=False, default=database_now()))
    actor: str = _text(100)
    action: str = _text(40)
    subject: str = _text(200)
    reason: str | None = _text(nullable=True)
    detail: str | None = _text(nullable=True)


class LockRow(_Rows, table=True):
    """A key that commands lock, by its hash; the row's lock is what counts."""

    __tablename__: ClassVar[Any] = "locks"
    name: str = _text(64, primary_key=True)
    locked_at: datetime = Field(sa_column=Column(Moment, nullable=False, default=database_now()))


class RouteRow(_Rows, table=True):
    """A group listens to a topic or pattern; without a group, a topic that may be published to."""

    __tablename__: ClassVar[Any] = "routes"
    group_name: str = _text(200, primary_key=True)
    topic: str = _text(249, primary_key=True)


class LaneRow(_Rows, table=True):
    """A lane of a group, and up to which position its owner may have handed out what is there."""

    __tablename__: ClassVar[Any] = "lanes"
    group_name: str = _text(200, primary_key=True)
    lane: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    fetched_to: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))


class DeliveryRow(_Rows, table=True):
    """An envelope's copy for one group, until that has settled it."""

    __tablename__: ClassVar[Any] = "deliveries"
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}
    group_name: str = _text(200)
    lane: int = _small()
    position: int = _position()
    event_id: UUID = _event_id()
    topic: str = _text(249)
    partition_key: str | None = _text(200, nullable=True)
    headers: str = _text()
    body: bytes = _bytes()
    attempts: int = _small(0)


class Tables:
    """The tables under one prefix and schema, for one dialect, in a MetaData of their own."""

    def __init__(
        self,
        prefix: str = "mediator_",
        schema: str | None = None,
        dialect: str = "sqlite",
        *,
        partitioned_inbox: bool = False,
    ) -> None:
        for setting, name in (("table_prefix", prefix or "_"), ("schema_name", "_" if schema is None else schema)):
            if not _IDENTIFIER.fullmatch(name):
                raise SettingsError(setting, name, "use lower-case letters, digits and underscores, at most 41")
        if schema is not None and dialect == "sqlite":
            raise SettingsError("schema_name", schema, "SQLite has no schemas: use a table prefix, or a file each")
        self.prefix, self.schema, self.dialect = prefix, schema, dialect
        self.place = f"{schema}.{prefix}"
        """What names of locks begin with: the same for all that reach the same tables, once the database is open."""
        self.partitioned_inbox = partitioned_inbox and dialect == "postgresql"
        """Whether the inbox is one table for each range of event ids (storage/partitions.py)."""
        self.metadata = MetaData(schema=schema)
        self.outbox = self._numbered(OutboxRow, "slot")
        self.sent = self._copy(SentRow)
        partitioned = {"postgresql_partition_by": "RANGE (event_id)"} if self.partitioned_inbox else {}
        self.inbox = self._copy(InboxRow, options=partitioned)
        self.parked = self._copy(ParkedRow)
        self.meta = self._copy(MetaRow)
        self.audit = self._copy(AuditRow)
        if dialect in MYSQL:
            self.locks = self._copy(LockRow)
        self.routes, self.lanes = self._copy(RouteRow), self._copy(LaneRow)
        self.deliveries = self._numbered(DeliveryRow, "group_name", "lane")
        outbox, sent, inbox, parked = self.outbox.c, self.sent.c, self.inbox.c, self.parked.c
        if dialect == "sqlite":
            Index(f"{prefix}outbox_slot", outbox.slot, outbox.position)
            deliveries = self.deliveries.c
            Index(f"{prefix}deliveries_lane", deliveries.group_name, deliveries.lane, deliveries.position)
        self._partial(f"{prefix}outbox_waiting", outbox.slot, outbox.next_attempt_at, where="next_attempt_at")
        self._partial(f"{prefix}outbox_due", outbox.slot, outbox.due_at, where="due_at")
        is_scheduled = outbox.slot < 0
        Index(f"{prefix}outbox_scheduled", outbox.event_id, sqlite_where=is_scheduled, postgresql_where=is_scheduled)
        Index(f"{prefix}sent_at", sent.sent_at)
        Index(f"{prefix}inbox_processed", inbox.processed_at)
        Index(f"{prefix}parked_identity", parked.subscriber_id, parked.event_id, unique=True)
        due = parked.status == "retry"
        Index(f"{prefix}parked_due", parked.next_attempt_at, sqlite_where=due, postgresql_where=due)
        Index(f"{prefix}parked_key", parked.subscriber_id, parked.partition_key, parked.position)

    def _partial(self, name: str, *columns: Column[Any], where: str) -> None:
        """An index of the few rows that have a value there; MySQL indexes all rows."""
        filled = self.outbox.c[where].is_not(None)
        Index(name, *columns, sqlite_where=filled, postgresql_where=filled)

    def _numbered(self, definition: type[SQLModel], *place: str) -> Table:
        """A table whose rows are numbered in the order of insertion, and found at their place in that order."""
        if self.dialect == "sqlite":
            return self._copy(definition)
        constraints: list[SchemaItem] = [PrimaryKeyConstraint(*place, "position")]
        first: list[SchemaItem] = []
        if self.dialect in MYSQL:
            # AUTO_INCREMENT asks for an index that begins with its column.
            name = f"{self.prefix}{definition.__tablename__}_position"
            constraints.append(UniqueConstraint("position", name=name))
        else:
            # Before the position: PostgreSQL evaluates defaults in the order of the columns.
            drawn = text("(pg_current_xact_id()::text::bigint)")
            first.append(Column("xid", BigInteger, nullable=False, server_default=drawn))
        return self._copy(definition, first, constraints)

    def _copy(
        self,
        definition: type[SQLModel],
        first: Sequence[SchemaItem] = (),
        constraints: Sequence[SchemaItem] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Table:
        table: Table = definition.__table__  # type: ignore[attr-defined]
        columns = [column._copy() for column in table.columns]  # noqa: SLF001 - as Table.to_metadata() does it
        if constraints:
            for column in columns:
                column.primary_key = False
        every = {**cast("dict[str, Any]", table.kwargs), **_MYSQL_OPTIONS, **options}
        return Table(f"{self.prefix}{table.name}", self.metadata, *first, *columns, *constraints, **every)
