"""What we publish, read off a broker by its own bare client, as another program would.

async with overhearing(app, broker.url, topic) as heard:
    await app.publish_in_own_transaction(event)
    (message,) = await heard(1)
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

import aiormq
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis
from sqlalchemy import select

from mediator import MediatorApp
from mediator.transports import SqlTransport
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.nats.address import NatsAddress
from mediator.transports.rabbitmq.address import address_of
from tests.support.nats import plain

__all__ = ["Message", "overhearing"]

_AGAIN_SECONDS: Final = 0.02


class Message(NamedTuple):
    """As the broker has it."""

    headers: Mapping[str, Any]
    content_type: str | None
    body: bytes


Heard: TypeAlias = Callable[[int], Awaitable[list[Message]]]


@asynccontextmanager
async def overhearing(app: MediatorApp, url: str, topic: str) -> AsyncIterator[Heard]:
    """Gives so many messages of a topic, when they are there."""
    scheme = urlsplit(url).scheme.partition("+")[0]
    async with _OVERHEARING[scheme](app, url, topic) as look:

        async def heard(count: int) -> list[Message]:
            found: list[Message] = []
            while len(found) < count:
                found += await look()
                await asyncio.sleep(_AGAIN_SECONDS)
            return found

        yield heard


@asynccontextmanager
async def _sql(app: MediatorApp, _url: str, topic: str) -> AsyncIterator[Any]:
    transport = app.transport
    assert isinstance(transport, SqlTransport)
    table, seen = transport.database.tables.deliveries, set[int]()

    async def look() -> list[Message]:
        async with transport.database.read() as connection:
            rows = (await connection.execute(select(table).where(table.c.topic == topic))).mappings().all()
        new = [row for row in rows if row["position"] not in seen]
        seen.update(row["position"] for row in new)
        return [_with_type(json.loads(row["headers"]), bytes(row["body"])) for row in new]

    yield look


@asynccontextmanager
async def _redis(_app: MediatorApp, url: str, topic: str) -> AsyncIterator[Any]:
    base, _, query = url.partition("?")
    parameters = dict(one.split("=") for one in query.split("&"))
    streams: dict[Any, Any] = {f"{parameters['prefix']}:lane:{lane}": "0" for lane in range(int(parameters["lanes"]))}
    async with Redis.from_url(base) as redis:

        async def look() -> list[Message]:
            found, answer = [], await redis.xread(streams)
            for stream, entries in cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", answer):
                streams[stream.decode()] = entries[-1][0]
                for _, fields in entries:
                    body = fields.pop(b"body")
                    if fields.pop(b"topic").decode() == topic:
                        texts = {name.decode(): value.decode() for name, value in fields.items()}
                        found.append(_with_type(texts, body))
            return found

        yield look


@asynccontextmanager
async def _rabbitmq(_app: MediatorApp, url: str, topic: str) -> AsyncIterator[Any]:
    address = address_of(url)
    async with aiormq.connect(address.url("somebody else")) as connection:
        channel = await connection.channel()
        queue = f"{address.prefix}.overheard"
        await channel.queue_declare(queue, exclusive=True)
        await channel.queue_bind(queue, address.prefix, f"*.{topic}")

        async def look() -> list[Message]:
            message = await channel.basic_get(queue, no_ack=True)
            if message.routing_key is None:
                return []
            properties = message.header.properties
            return [Message(properties.headers or {}, properties.content_type, message.body)]

        yield look


@asynccontextmanager
async def _nats(_app: MediatorApp, url: str, topic: str) -> AsyncIterator[Any]:
    address = NatsAddress.of(url)
    async with plain(url.partition("?")[0]) as client:
        subject = address.subject(0, topic)
        subscription = await client.subscribe(subject.replace(".0.", ".*.", 1))
        await client.flush()

        async def look() -> list[Message]:
            message = await subscription.next_msg(timeout=10)
            return [_with_type(dict(message.headers or {}), message.data)]

        yield look


@asynccontextmanager
async def _kafka(_app: MediatorApp, url: str, topic: str) -> AsyncIterator[Any]:
    address = KafkaAddress.parse(url)
    name = Names(address.prefix).of(topic)
    async with AIOKafkaConsumer(
        name, bootstrap_servers=list(address.servers), auto_offset_reset="earliest"
    ) as consumer:

        async def look() -> list[Message]:
            batches = await consumer.getmany(timeout_ms=500)
            records = [record for batch in batches.values() for record in batch]
            return [Message(dict(record.headers), None, record.value) for record in records]

        yield look


_OVERHEARING: Final[dict[str, Callable[[MediatorApp, str, str], AbstractAsyncContextManager[Any]]]] = {
    "sql": _sql,
    "redis": _redis,
    "amqp": _rabbitmq,
    "nats": _nats,
    "kafka": _kafka,
}


def _with_type(headers: Mapping[str, Any], body: bytes) -> Message:
    return Message(headers, headers.get("content-type"), body)
