"""NATS servers for the tests of the transport: the one that runs already, and the newest one, started for the run."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription
from mediator.transports.nats import NatsTransport

__all__ = ["TOPIC", "api", "cut", "delete_streams", "envelope", "outcomes", "plain", "received", "server_url"]

MISSING = "missing service"
TOPIC = "test.shop.public.orders.v1"


def server_url(request: pytest.FixtureRequest, which: str) -> str:
    url: str = request.getfixturevalue(f"{which}_server")
    if url.startswith("missing: "):
        request.node.user_properties.append((MISSING, "nats"))
        pytest.skip(url)
    return url


async def api(url: str, subject: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """What JetStream says to a request, on a connection of its own."""
    async with plain(url) as client:
        answer = await client.request(f"$JS.API.{subject}", json.dumps(about or {}).encode(), timeout=5)
        found: dict[str, Any] = json.loads(answer.data)
        return found


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Client]:
    async def ignore(_error: Exception) -> None:
        """It is raised as well."""

    client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=ignore)
    try:
        yield client
    finally:
        await client.close()


async def delete_streams(url: str, prefix: str) -> None:
    for name in (prefix, f"{prefix}-topics"):
        await api(url, f"STREAM.DELETE.{name}")  # an error as its answer is as good


async def cut(transport: NatsTransport) -> None:
    """Cut its connection, once what was said on it so far has arrived; returns when that was noticed."""
    client = transport._connection.client
    await client.flush()
    client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
    while transport._connection._client is client:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)


def envelope(body: str | bytes = "{}", topic: str = TOPIC, key: str | None = None, **facts: Any) -> Envelope:
    return Envelope(
        event_id=uuid4(),
        topic=topic,
        type="shop.order-placed",
        version="v1",
        body=body if isinstance(body, bytes) else body.encode(),
        occurred_on=datetime.now(UTC),
        source="/shop/ordering",
        key=key,
        **facts,
    )


async def outcomes(transport: NatsTransport, *batch: Envelope) -> list[Exception | None]:
    """In the order of the batch, which holds none twice."""
    found = {id(sent): error async for sent, error in transport.publish(batch)}
    return [found[id(sent)] for sent in batch]


async def received(subscription: Subscription, count: int, *, settle: bool = True) -> list[Delivery]:
    """So many deliveries; the test's own timeout ends the waiting."""
    found: list[Delivery] = []
    while len(found) < count:
        more = await subscription.fetch(count - len(found), timedelta(seconds=1))
        if settle:
            await subscription.settle([(delivery, Settlement.ACK) for delivery in more])
        found += more
    return found
