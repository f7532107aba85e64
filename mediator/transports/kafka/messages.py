"""How an envelope becomes a Kafka record, and a record a delivery.

CloudEvents' Kafka binding calls an attribute `ce_id` that is `ce-id` here, and has values plain, as UTF-8; other
headers keep their names. The record's key is the partition key. A record of somebody else's is handed on as far as it
can be read: the core decides about it.
"""

from urllib.parse import unquote

from aiokafka.structs import ConsumerRecord

from mediator.messaging.cloudevents import encoded, to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery

__all__ = ["delivery_of", "record_headers"]

_OURS, _THEIRS = "ce-", "ce_"


def record_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The headers of an envelope as Kafka has them."""
    return [
        (_THEIRS + name[len(_OURS) :] if name.startswith(_OURS) else name, unquote(value).encode())
        for name, value in to_headers(envelope).items()
    ]


def delivery_of(record: ConsumerRecord, *, topic: str, attempt: int, lane: int, epoch: int) -> Delivery:
    """What a record carries; a tombstone is an empty body."""
    headers = _headers(record)
    return Delivery(
        topic=topic,
        headers=headers,
        body=record.value or b"",
        event_id=headers.get("ce-id"),
        key=None if record.key is None else record.key.decode(errors="backslashreplace"),
        attempt=attempt,
        lane=lane,
        epoch=epoch,
    )


def _headers(record: ConsumerRecord) -> dict[str, str]:
    """Those that are text; of several with one name the last."""
    found = {}
    for name, value in record.headers:
        try:
            text = (value or b"").decode()
        except UnicodeDecodeError:
            continue
        found[_OURS + name[len(_THEIRS) :] if name.startswith(_THEIRS) else name] = encoded(text)
    return found
