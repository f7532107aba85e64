"""What the tests of the Kafka transport have in common: the broker of the run, and looks at it from outside."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription
from mediator.transports.kafka import KafkaTransport
from tests.support.own_kafka import KafkaServer

__all__ = [
    "TOPIC",
    "admin",
    "cut",
    "delete_topics",
    "envelope",
    "made",
    "make_topic",
    "outcomes",
    "plain",
    "received",
    "running",
]

TOPIC = "test.shop.public.orders.v1"


@contextmanager
def running() -> Iterator[str]:
    """The URL of the broker that somebody named, or of one that is started; raises Unreachable."""
    if url := os.environ.get("MEDIATOR_TEST_KAFKA"):
        yield url.rstrip("/")
        return
    with KafkaServer() as server:
        server.start()
        yield server.url()


def _servers(url: str) -> str:
    return url.partition("://")[2].partition("?")[0]


@asynccontextmanager
async def admin(url: str) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=_servers(url))
    try:
        await client.start()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Any]:
    """A producer that is not ours."""
    async with AIOKafkaProducer(bootstrap_servers=_servers(url)) as producer:
        yield producer


async def made(url: str, prefix: str) -> list[str]:
    async with admin(url) as client:
        return sorted(name for name in await client.list_topics() if name.startswith(prefix))


async def make_topic(url: str, name: str, partitions: int, **settings: str) -> None:
    async with admin(url) as client:
        await client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])


async def delete_topics(url: str, prefix: str) -> None:
    async with admin(url) as client:
        if names := [name for name in await client.list_topics() if name.startswith(prefix)]:
            await client.delete_topics(names)


def cut(transport: KafkaTransport) -> None:
    """Cut all its connections."""
    clients = [transport._cluster.client, *(one._reader._client for one in transport._subscriptions)]
    for client in clients:
        for connection in client._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()


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


async def outcomes(transport: KafkaTransport, *batch: Envelope) -> list[Exception | None]:
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
