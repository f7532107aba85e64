"""What the tests of the transports send, and how they take what comes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription, Transport

__all__ = ["GROUP", "TOPIC", "acknowledge", "envelope", "errors_of", "outcomes", "received"]

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


async def errors_of(transport: Transport, *batch: Envelope) -> list[Exception | None]:
    """Publish; gives what became of each in the order of the batch, which holds none twice."""
    found = {id(sent): error async for sent, error in transport.publish(batch)}
    return [found[id(sent)] for sent in batch]


async def acknowledge(subscription: Subscription, *deliveries: Delivery) -> None:
    await subscription.settle([(delivery, Settlement.ACK) for delivery in deliveries])


async def received(subscription: Subscription, count: int, *, settle: bool = True) -> list[Delivery]:
    """So many deliveries; the test's own timeout ends the waiting."""
    found: list[Delivery] = []
    while len(found) < count:
        more = await subscription.fetch(count - len(found), timedelta(seconds=1))
        if settle:
            await acknowledge(subscription, *more)
        found += more
    return found
