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
    if is_ours(fields):
        topic, body = topic_of(fields), fields[3]
        headers = _headers(fields[4::2], fields[5::2])
    else:
        pairs = zip(fields[::2], fields[1::2], strict=True)
        topic, body = stream, b"\n".join(name + b": " + value for name, value in pairs)
        headers = _headers(fields[::2], fields[1::2])
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


def _headers(names: Sequence[bytes], values: Sequence[bytes]) -> dict[str, str]:
    """Those that are text."""
    with suppress(UnicodeDecodeError):
        # What we write always is, and there is a lot of it.
        return dict(zip(map(bytes.decode, names), map(bytes.decode, values), strict=True))
    found = {}
    for name, value in zip(names, values, strict=True):
        with suppress(UnicodeDecodeError):
            found[name.decode()] = value.decode()
    return found
