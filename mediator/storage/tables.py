"""The toolkit's tables: one definition, copied under the prefix and schema that an application chose.

    outbox   what is committed and not yet sent          sent    what was sent, for people, for a day
    inbox    what a subscriber has taken charge of       parked  deliveries that wait, or are dead
    meta     version of these tables                     audit   what operators did

Scheduled outbox rows wait in slots of their own, `-1 - slot`, so that fetching what is due never reads past them.
"""

import re
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from mediator.errors import SettingsError
from mediator.storage.columns import EventId, Moment, Position, database_now

__all__ = ["SCHEMA_VERSION", "AuditRow", "InboxRow", "MetaRow", "OutboxRow", "ParkedRow", "SentRow", "Tables"]

SCHEMA_VERSION = "1"
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class _Rows(SQLModel, registry=registry()):
    """Base of the table definitions, with a MetaData of its own."""


def _position() -> Any:
    return Field(sa_column=Column(Position, primary_key=True, autoincrement=True))


def _event_id(*, primary_key: bool = False) -> Any:
    return Field(sa_column=Column(EventId, primary_key=primary_key, nullable=False))


def _text(length: int | None = None, *, nullable: bool = False, primary_key: bool = False) -> Any:
    kind = String(length) if length else Text()
    return Field(sa_column=Column(kind, nullable=nullable, primary_key=primary_key))


def _moment(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(Moment, nullable=nullable))


def _bytes(length: int | None = None) -> Any:
    return Field(sa_column=Column(LargeBinary(length), nullable=False))


def _small(default: int | None = None) -> Any:
    return Field(sa_column=Column(SmallInteger, nullable=False, default=default))


class _EventColumns(SQLModel):
    """What the outbox and the history keep of an event."""

    topic: str = Field(sa_type=String(249))
    type: str = Field(sa_type=String(160))
    version: str = Field(sa_type=String(16))
    partition_key: str | None = Field(sa_type=String(200))
    body: bytes = Field(sa_type=LargeBinary)
    headers: str = Field(sa_type=Text)
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
    position: int = _position()
    slot: int = _small()
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
    payload_hash: bytes = _bytes(16)
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


class Tables:
    """The tables under one prefix and schema, in a MetaData of their own."""

    def __init__(self, prefix: str = "mediator_", schema: str | None = None) -> None:
        for setting, name in (("table_prefix", prefix or "_"), ("schema_name", schema or "_")):
            if not _IDENTIFIER.fullmatch(name):
                raise SettingsError(setting, name, "use lower-case letters, digits and underscores, at most 41")
        self.prefix, self.schema = prefix, schema
        self.metadata = MetaData(schema=schema)
        self.outbox = self._copy(OutboxRow)
        self.sent = self._copy(SentRow)
        self.inbox = self._copy(InboxRow)
        self.parked = self._copy(ParkedRow)
        self.meta = self._copy(MetaRow)
        self.audit = self._copy(AuditRow)
        outbox, sent, inbox, parked = self.outbox.c, self.sent.c, self.inbox.c, self.parked.c
        Index(f"{prefix}outbox_slot", outbox.slot, outbox.position)
        waiting = outbox.next_attempt_at.is_not(None)
        Index(f"{prefix}outbox_waiting", outbox.slot, outbox.next_attempt_at, sqlite_where=waiting)
        Index(f"{prefix}outbox_due", outbox.slot, outbox.due_at, sqlite_where=outbox.due_at.is_not(None))
        Index(f"{prefix}sent_at", sent.sent_at)
        Index(f"{prefix}inbox_processed", inbox.processed_at)
        Index(f"{prefix}parked_identity", parked.subscriber_id, parked.event_id, unique=True)
        Index(f"{prefix}parked_due", parked.next_attempt_at, sqlite_where=parked.status == "retry")
        Index(f"{prefix}parked_key", parked.subscriber_id, parked.partition_key, parked.position)

    def _copy(self, definition: type[SQLModel]) -> Table:
        table: Table = definition.__table__  # type: ignore[attr-defined]
        return table.to_metadata(self.metadata, schema=cast("str", self.schema), name=f"{self.prefix}{table.name}")
