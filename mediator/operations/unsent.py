"""The dead letters of the sending side: outbox rows that could not be sent, and their way back into the outbox."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.clock import Runtime
from mediator.errors import UnreadableMessageError
from mediator.messaging.cloudevents import from_headers, to_headers
from mediator.messaging.envelope import Envelope, headers_column
from mediator.storage.columns import milliseconds
from mediator.storage.database import Database
from mediator.storage.outbox import OutboxInsert, slot_of
from mediator.storage.parked import DEAD, SENDING_SIDE, ParkedTable

__all__ = ["bury_unsent", "envelope_of", "send_again"]


async def bury_unsent(
    database: Database, connection: AsyncConnection, row: RowMapping, facts: Mapping[str, Any], runtime: Runtime
) -> UUID:
    """Store an outbox row that cannot be sent, in the transaction that removes it; gives its id here."""
    identity: UUID = row["event_id"]
    try:
        headers = to_headers(Envelope.from_row(row))
    except ValueError:
        # Somebody wrote to the table: kept as it is, for a person to look at.
        headers = {"unreadable": row["headers"]}
    parked = database.tables.parked.c
    known = select(parked.position).where(parked.subscriber_id == SENDING_SIDE, parked.event_id == identity)
    if (await connection.execute(known.with_for_update())).first() is not None:
        # The same event was published, and died, before: keep this one too.
        identity = runtime.new_id()
    values = {
        "subscriber_id": SENDING_SIDE,
        "event_id": identity,
        "status": DEAD,
        "reason": "not sent",
        **{name: row[name] for name in ("topic", "partition_key", "body", "correlation_id")},
        "headers": json.dumps(headers),
        **facts,
    }
    await ParkedTable(database).park(connection, values)
    return identity


def envelope_of(row: RowMapping) -> Envelope | str:
    """The envelope that a letter is, or why it is none."""
    try:
        return from_headers(row["topic"], json.loads(row["headers"]), bytes(row["body"]))
    except UnreadableMessageError as error:
        return str(error)


async def send_again(
    database: Database, connection: AsyncConnection, envelopes: Sequence[tuple[Envelope, timedelta | None]]
) -> None:
    """Put envelopes into the outbox, each due after its delay."""
    if envelopes:
        await OutboxInsert(database.tables).execute(connection, [_outbox_row(*one) for one in envelopes])


def _outbox_row(envelope: Envelope, delay: timedelta | None) -> Mapping[str, Any]:
    return {
        "slot": slot_of(envelope.key, envelope.event_id, scheduled=delay is not None),
        "event_id": envelope.event_id,
        "topic": envelope.topic,
        "type": envelope.type,
        "version": envelope.version,
        "partition_key": envelope.key,
        "body": envelope.body,
        "headers": headers_column(envelope.headers, envelope.callback, envelope.deprecation),
        "source": envelope.source,
        "occurred_on": envelope.occurred_on,
        "delay": None if delay is None else milliseconds(delay),
        "at": None,
        "attempts": 0,
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "traceparent": envelope.traceparent,
        "module": envelope.source.rsplit("/", 1)[-1],
        "cause": "replay",
    }
