"""Envelopes as AMQP messages and back: CloudEvents in binary mode, one header for each attribute.

We write `ce-id` and the like, as Knative's binding does, values plain, and the content type as the property that it is.
What others write is read as well: `cloudEvents:id` and `cloudEvents_id`, as the binding for AMQP 1.0 has it, and values
that are numbers or moments. Headers that cannot be told as text are left out; the body is always what was sent.
"""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

from aiormq.abc import DeliveredMessage
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from mediator.messaging.cloudevents import encoded, to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, lane_of

__all__ = ["MOST_BYTES", "Message", "delivery_of", "routing_key_of"]

MOST_BYTES: Final = 16 * 1024 * 1024
"""What a body may have on a broker with the usual settings (RabbitMQ 4; version 3 takes more)."""
_PERSISTENT: Final = 2
_LONGEST_KEY: Final = 255
_FRAME_BYTES: Final = 8
"""What a frame has around its content."""
_FOREIGN: Final = ("cloudevents:", "cloudevents_")
_COUNTS: Final = ("x-delivery-count", "x-acquired-count")
"""What a quorum queue adds to what it delivers again, as numbers. Anything else of these names is the sender's."""
_ROUTING_HEADERS: Final = frozenset({"CC", "BCC"})


def routing_key_of(envelope: Envelope, lanes: int) -> str:
    """Where an envelope goes: to its lane, and to who listens to its topic."""
    return f"{lane_of(envelope, lanes)}.{envelope.topic}"


class Message:
    """An envelope that is ready to be sent."""

    __slots__ = ("body", "properties", "routing_key")

    def __init__(self, envelope: Envelope, lanes: int) -> None:
        headers: dict[str, Any] = {name: unquote(value) for name, value in to_headers(envelope).items()}
        self.body, self.routing_key = envelope.body, routing_key_of(envelope, lanes)
        self.properties = Basic.Properties(
            content_type=headers.pop("content-type"),
            message_id=str(envelope.event_id),
            delivery_mode=_PERSISTENT,
            headers=headers,
        )

    def wrong_with(self, most_bytes: int, frame_bytes: int) -> str | None:
        """Why no broker would take it; None when nothing is wrong. The broker would end the connection for it."""
        if len(self.body) > most_bytes:
            return f"its body has {len(self.body)} bytes, and the broker takes {most_bytes}"
        if len(self.routing_key.encode()) > _LONGEST_KEY:
            return f"its topic has more than {_LONGEST_KEY} bytes with the lane in front"
        headers: Mapping[str, Any] = self.properties.headers or {}
        if wrong := _ROUTING_HEADERS & headers.keys():
            return f"its header {min(wrong)} means something else to the broker"
        # Most are far below it: counted exactly only where it matters.
        if sum(len(name) + 4 * len(value) for name, value in headers.items()) > frame_bytes // 2:
            size = len(marshal(ContentHeader(body_size=0, properties=self.properties), 0))
            if size > frame_bytes:
                return f"its headers have {size} bytes, and a frame of the broker {frame_bytes}"
        return None

    def frames(self, exchange: str, frame_bytes: int) -> Sequence[Any]:
        """What is written to the broker."""
        room = frame_bytes - _FRAME_BYTES
        return [
            Basic.Publish(exchange=exchange, routing_key=self.routing_key),
            ContentHeader(body_size=len(self.body), properties=self.properties),
            *(ContentBody(self.body[at : at + room]) for at in range(0, len(self.body), room)),
        ]


def delivery_of(message: DeliveredMessage, exchange: str, lane: int, epoch: int) -> Delivery:
    """What has arrived, whoever sent it."""
    properties = message.header.properties
    found: dict[str, Any] = dict(properties.headers or {})
    counts = [found.pop(name) for name in _COUNTS if isinstance(found.get(name), int)]
    headers = {_name(name): encoded(text) for name, value in found.items() if (text := _text(value)) is not None}
    if properties.content_type:
        headers["content-type"] = encoded(properties.content_type)
    return Delivery(
        topic=_topic(message, exchange),
        headers=headers,
        body=message.body,
        event_id=headers.get("ce-id"),
        key=unquote(key) if (key := headers.get("ce-partitionkey")) is not None else None,
        attempt=1 + max([*counts, 1]) if message.redelivered else 1,
        lane=lane,
        epoch=epoch,
    )


def _topic(message: DeliveredMessage, exchange: str) -> str:
    key = message.routing_key or ""
    lane, dot, topic = key.partition(".")
    return topic if message.exchange == exchange and dot and lane.isdecimal() else key


def _name(name: str) -> str:
    lower = name.lower()
    for prefix in _FOREIGN:
        if lower.startswith(prefix):
            return f"ce-{lower.removeprefix(prefix)}"
    return lower if lower.startswith("ce-") else name


def _text(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float() | Decimal():
            return str(value)
        case datetime():
            return value.isoformat()
        case bytes() | bytearray():
            with contextlib.suppress(UnicodeDecodeError):
                return value.decode()
    return None
