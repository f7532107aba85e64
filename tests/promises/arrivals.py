"""Envelopes as they arrive, and raw messages as only other systems send them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from contracts import IntegrationEvent, topic_of, uuid7
from contracts.keys import partition_key_of
from mediator import MediatorApp
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Transport
from mediator.transports.memory import MemoryTransport, _delivery, _Publication

__all__ = ["WireTransport", "arrive", "arrive_at_once", "envelope_of", "raw_headers"]

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


def envelope_of(event: IntegrationEvent, **changes: Any) -> Envelope:
    """The envelope in which `event` would travel."""
    topic = topic_of(type(event))
    values = {
        "event_id": event.event_id,
        "topic": topic.address("test"),
        "type": topic.type,
        "version": topic.version,
        "body": event.model_dump_json().encode(),
        "occurred_on": event.occurred_on,
        "source": "/elsewhere/sender",
        "key": partition_key_of(event),
    }
    return Envelope(**{**values, **changes})


async def arrive(app: MediatorApp, *envelopes: Envelope) -> None:
    """Deliver through the transport; returns when every group has acknowledged."""
    await asyncio.gather(*(_published(app.transport, envelope) for envelope in envelopes))


async def arrive_at_once(app: MediatorApp, *envelopes: Envelope) -> None:
    """The same, but all of them wait before the first is handled."""
    async for _, error in app.transport.publish(envelopes):
        assert error is None


async def _published(transport: Transport, envelope: Envelope) -> None:
    async for _, error in transport.publish([envelope]):
        assert error is None


def raw_headers(type_: str, **changes: str | None) -> dict[str, str]:
    """What a message has to say of itself; a changed header that is None is left out."""
    headers: dict[str, str | None] = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid7()),
        "ce-source": "/elsewhere/sender",
        "ce-type": type_,
        "ce-time": "2026-01-31T12:00:00+00:00",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {name: value for name, value in headers.items() if value is not None}


class WireTransport(MemoryTransport):
    """In process, and open to what no publisher of ours would send."""

    async def inject(self, group: str, topic: str, headers: Mapping[str, str], body: bytes) -> None:
        """Deliver a raw message to a group; returns when it is acknowledged."""
        envelope = Envelope(
            event_id=uuid7(), topic=topic, type="", version="", body=body, occurred_on=_LONG_AGO, source=""
        )
        publication = _Publication(envelope, asyncio.Queue(), {group})
        self._groups[group].put(_delivery(envelope, headers, attempt=1), publication)
        _, error = await publication.outcomes.get()
        assert error is None
