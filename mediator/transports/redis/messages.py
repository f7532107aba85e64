"""An envelope as an entry of a stream: `topic`, `body`, and a field for each header, in this order.

The first two are known by their places, so that a header may have any name. What somebody else has added in another
form is delivered as well, with all its fields in the body: the core keeps it as a dead letter.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from urllib.parse import unquote

from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery

__all__ = ["delivery_of", "fields_of", "is_ours", "topic_of"]


def fields_of(envelope: Envelope) -> list[str | bytes]:
    """Names and values in turn."""
    return ["topic", envelope.topic, "body", envelope.body, *chain.from_iterable(to_headers(envelope).items())]


def is_ours(fields: Sequence[bytes]) -> bool:
    """Whether an entry has our form."""
    return fields[::2][:2] == [b"topic", b"body"]


def topic_of(fields: Sequence[bytes]) -> str:
    """The topic of an entry that has our form."""
    return fields[1].decode(errors="replace")


def delivery_of(fields: Sequence[bytes], stream: str, *, lane: int, attempt: int, epoch: int) -> Delivery:
    """What was added; the topic of what is not ours is its stream."""
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    if is_ours(fields):
        topic, body = topic_of(fields), fields[3]
        pairs = pairs[2:]
    else:
        topic, body = stream, b"\n".join(name + b": " + value for name, value in pairs)
    headers = {}
    for name, value in pairs:
        with suppress(UnicodeDecodeError):
            headers[name.decode()] = value.decode()
    key = headers.get("ce-partitionkey")
    return Delivery(
        topic=topic,
        headers=headers,
        body=body,
        event_id=headers.get("ce-id"),
        key=None if key is None else unquote(key),
        attempt=attempt,
        lane=lane,
        epoch=epoch,
    )
