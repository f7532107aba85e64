"""What the tests of RabbitMQ send."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Transport

__all__ = ["GROUP", "TOPIC", "envelope", "outcomes"]

TOPIC, GROUP = "test.shop.public.orders.v1", "shop.billing"


def envelope(body: str | bytes = "{}", **facts: Any) -> Envelope:
    """An envelope for TOPIC without a key, unless the facts say otherwise."""
    return Envelope(
        **{
            "event_id": uuid4(),
            "topic": TOPIC,
            "type": "shop.order-placed",
            "version": "v1",
            "body": body if isinstance(body, bytes) else body.encode(),
            "occurred_on": datetime.now(UTC),
            "source": "/shop/ordering",
            **facts,
        }
    )


async def outcomes(transport: Transport, *batch: Envelope) -> list[tuple[Envelope, Exception | None]]:
    """Publish, and wait for every outcome."""
    return [outcome async for outcome in transport.publish(batch)]
