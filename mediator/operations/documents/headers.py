"""The headers of an event on the wire, as a schema and as an example: what `mediator.messaging.cloudevents` writes."""

from typing import Any

from contracts import partition_key_of
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.operations.documents.events import EventDocument

__all__ = ["HEADERS", "headers_of"]


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode; values are percent-encoded as its HTTP binding says.",
    "properties": {
        "content-type": _text("What the body is.", const="application/json"),
        "ce-specversion": _text("Version of CloudEvents.", const="1.0"),
        "ce-id": _text("The event's id, the same as in the body.", format="uuid"),
        "ce-source": _text("The publisher: /application/module."),
        "ce-type": _text("Wire name and version of the event."),
        "ce-time": _text("When it happened.", format="date-time"),
        "ce-partitionkey": _text("Events with the same key keep their order."),
        "ce-correlationid": _text("The same for all that one request set off."),
        "ce-causationid": _text("What directly caused the event."),
        "ce-traceparent": _text("W3C trace context."),
        "ce-callback": _text("Address of the topic that answers go to."),
        "ce-deprecated": _text("That the event should not be used any more.", const="true"),
        "ce-deprecationfrom": _text("Since when.", format="date-time"),
        "ce-deprecationsunset": _text("When nobody may count on it any more.", format="date-time"),
        "ce-replacedby": _text("Wire name and version of the event to use instead."),
    },
    "required": ["content-type", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"],
}


def headers_of(event: EventDocument, application: str) -> dict[str, str]:
    """The headers of the event's example."""
    if event.example is None:
        return {}
    made = event.event_class.model_validate(dict(event.example))
    producer = event.producers[0].module if event.producers else "module"
    envelope = Envelope(
        event_id=made.event_id,
        topic=event.channel,
        type=event.type,
        version=event.version,
        body=b"",
        occurred_on=made.occurred_on,
        source=f"/{application}/{producer}",
        key=partition_key_of(made),
        correlation_id=made.correlation_id,
    )
    return dict(sorted(to_headers(envelope).items()))
