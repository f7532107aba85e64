"""Editing: a dead letter with other values, as a new event whose header `edited-from` names the old one."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.engine import RowMapping

from contracts import partition_key_of
from mediator.errors import OperationRefusedError, UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received
from mediator.messaging.cloudevents import from_headers, to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.limits import Limits
from mediator.storage.parked import RETRY, SENDING_SIDE

__all__ = ["edited", "edited_row"]


def edited(
    row: RowMapping, changes: Mapping[str, Any], identity: UUID, catalog: EventCatalog, limits: Limits
) -> Received:
    """The new event, validated against its contract; raises OperationRefusedError."""
    if row["subscriber_id"].startswith("@") and row["subscriber_id"] != SENDING_SIDE:
        raise OperationRefusedError(
            "edit and replay",
            f"dead letter {row['position']}",
            f"it belongs to {row['subscriber_id']}, not to a handler",
            "Replay it as it is, or publish a new event",
        )
    try:
        before = from_headers(row["topic"], json.loads(row["headers"]), bytes(row["body"]))
        data = {**json.loads(before.body), **changes, "event_id": str(identity)}
        after = Envelope(
            event_id=identity,
            topic=before.topic,
            type=before.type,
            version=before.version,
            body=json.dumps(data, allow_nan=False).encode(),
            occurred_on=before.occurred_on,
            source=before.source,
            key=before.key,
            correlation_id=before.correlation_id,
            causation_id=before.causation_id,
            traceparent=before.traceparent,
            callback=before.callback,
            deprecation=before.deprecation,
            headers={**before.headers, "edited-from": str(before.event_id)},
        )
        received = Received(after, catalog, limits)
    except (UnreadableMessageError, ValueError, TypeError) as error:
        raise OperationRefusedError(
            "edit and replay", f"dead letter {row['position']}", str(error), "Give values that the contract allows"
        ) from error
    event = received.as_class(received.entry.event_class)
    unknown = set(changes) - set(type(event).model_fields)
    key = partition_key_of(event)
    if unknown or (key is not None and key != before.key):
        why = f"the contract has no {', '.join(sorted(unknown))}" if unknown else "its partition key would change"
        raise OperationRefusedError(
            "edit and replay", f"dead letter {row['position']}", why, "Change other values, or publish a new event"
        )
    return received


def edited_row(row: RowMapping, received: Received) -> Mapping[str, Any]:
    """The new event as a delivery that waits for its first attempt, at the one handler that failed."""
    return {
        **{name: row[name] for name in ("subscriber_id", "topic", "partition_key", "correlation_id")},
        "event_id": received.envelope.event_id,
        "status": RETRY,
        "reason": "edited",
        "headers": json.dumps(to_headers(received.envelope)),
        "body": received.envelope.body,
    }
