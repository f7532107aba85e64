"""What the tests of the Kafka transport have in common: looks at a broker from outside, and cuts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from mediator.transports.kafka import KafkaTransport

__all__ = ["admin", "cut", "delete_topics", "made", "make_topic", "plain"]


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
