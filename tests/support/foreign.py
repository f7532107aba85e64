"""Messages of other programs: put on a broker by its own bare client, past our publishing.

    await put(app, broker.url, "test.depot.public.parcels.v1", {"ce-id": "…"}, b"{}", key="a")

    async with sending(app, broker.url) as send:
        await send(topic, [("twice", "1"), ("twice", b"\xff")], b"\0", None)

Headers go as they are named, and as the bytes that they are. Whatever a broker cannot carry is refused with a
ValueError, by its client or here, and never changed. With `application/json` as content type and the like, a program
says so in a property on RabbitMQ, which is where it goes there.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import aiormq
from aiokafka import AIOKafkaProducer
from nats.protocol.command import hpub_cmd
from pamqp.commands import Basic
from redis.asyncio import Redis
from sqlalchemy import insert

from contracts import uuid7
from mediator import MediatorApp
from mediator.messaging.envelope import Envelope
from mediator.messaging.patterns import listens
from mediator.messaging.transport import Delivery
from mediator.storage.routes import RoutesTable
from mediator.transports import MemoryTransport, SqlTransport
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.memory import _Publication
from mediator.transports.nats.address import NatsAddress
from mediator.transports.rabbitmq.address import address_of
from tests.support.nats import plain

__all__ = ["Headers", "Send", "add_fields", "put", "sending"]

Headers: TypeAlias = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]
"""By name, or in turn where a name comes twice."""
Send: TypeAlias = Callable[[str, Headers, bytes, str | None], Awaitable[None]]
"""Takes topic, headers, body and partition key."""
_ANSWER_SECONDS: Final = 10
_LONGEST_FIELD_BYTES: Final = 128


async def put(
    app: MediatorApp, url: str, topic: str, headers: Headers, body: bytes = b"", key: str | None = None
) -> None:
    """Put one message to where `app` reads; the broker has it when this returns."""
    async with sending(app, url) as send:
        await send(topic, headers, body, key)


@asynccontextmanager
async def sending(app: MediatorApp, url: str) -> AsyncIterator[Send]:
    """What puts messages to where `app` reads, over one connection."""
    scheme = urlsplit(url).scheme.partition("+")[0]
    async with _SENDING[scheme](app, url) as send:
        yield send


@asynccontextmanager
async def _in_process(app: MediatorApp, _url: str) -> AsyncIterator[Send]:
    transport = app.transport
    assert isinstance(transport, MemoryTransport)

    async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
        texts = _once({name: _text(value) for name, value in _pairs(headers)}, headers)
        envelope = Envelope(
            event_id=uuid7(), topic=topic, type="", version="", body=body, occurred_on=datetime.now(UTC), source=""
        )
        for name, group in transport._groups.items():
            if listens(group.topics, topic):
                publication = _Publication(envelope, asyncio.Queue(), {name})
                group.put(
                    Delivery(topic=topic, headers=texts, body=body, event_id=texts.get("ce-id"), key=key), publication
                )

    yield send


@asynccontextmanager
async def _sql(app: MediatorApp, _url: str) -> AsyncIterator[Send]:
    transport = app.transport
    assert isinstance(transport, SqlTransport)
    database = transport.database

    async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
        # Written by hand, so that a name may come twice.
        fields = ", ".join(f"{json.dumps(name)}: {json.dumps(_text(value))}" for name, value in _pairs(headers))
        async with database.begin() as connection:
            routes = await RoutesTable(database).current(connection)
            for group, heard in routes.heard.items():
                if group in routes.lanes and listens(heard, topic):
                    row = {
                        "group_name": group,
                        "lane": _lane(key, routes.lanes[group]),
                        "event_id": uuid7(),
                        "topic": topic,
                        "partition_key": key,
                        "headers": f"{{{fields}}}",
                        "body": body,
                    }
                    await connection.execute(insert(database.tables.deliveries).values(row))

    yield send


@asynccontextmanager
async def _redis(_app: MediatorApp, url: str) -> AsyncIterator[Send]:
    prefix, lanes = _parameter(url, "prefix"), int(_parameter(url, "lanes"))
    async with Redis.from_url(url.partition("?")[0]) as redis:

        async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
            fields = [("topic", topic.encode()), ("body", body), *_pairs(headers)]
            await redis.execute_command(  # type: ignore[no-untyped-call]
                "XADD", f"{prefix}:lane:{_lane(key, lanes)}", "*", *chain.from_iterable(fields)
            )

        yield send


async def add_fields(url: str, lane: int, fields: Sequence[tuple[str | bytes, str | bytes]]) -> None:
    """Add an entry to a lane on Redis, in whatever form somebody likes."""
    async with Redis.from_url(url.partition("?")[0]) as redis:
        stream = f"{_parameter(url, 'prefix')}:lane:{lane}"
        await redis.execute_command("XADD", stream, "*", *chain.from_iterable(fields))  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _rabbitmq(_app: MediatorApp, url: str) -> AsyncIterator[Send]:
    address = address_of(url)
    async with aiormq.connect(address.url("somebody else")) as connection:
        channel = await connection.channel()

        async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
            table: dict[str, Any] = _once({name: _field(value) for name, value in _pairs(headers)}, headers)
            if any(len(name.encode()) > _LONGEST_FIELD_BYTES for name in table):
                raise ValueError("the client would cut a name of a header")
            kind = table.pop("content-type", None)
            properties = Basic.Properties(headers=table, content_type=kind)
            answer = await channel.basic_publish(
                body,
                exchange=address.prefix,
                routing_key=f"{_lane(key, address.lanes)}.{topic}",
                properties=properties,
                mandatory=True,
                timeout=_ANSWER_SECONDS,
            )
            assert isinstance(answer, Basic.Ack)

        yield send


@asynccontextmanager
async def _nats(_app: MediatorApp, url: str) -> AsyncIterator[Send]:
    address = NatsAddress.of(url)
    async with plain(url.partition("?")[0]) as client:

        async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
            # Its own `publish` would change what it does not like; other clients write bytes.
            lines = [_line(name, value) for name, value in _pairs(headers)]
            block = b"NATS/1.0\r\n" + b"".join(lines) + b"\r\n"
            if len(block) + len(body) > client.max_payload:
                raise ValueError(f"the server takes {client.max_payload} bytes")
            inbox = client.new_inbox()
            answers = await client.subscribe(inbox, max_msgs=1)
            await client._send_command(hpub_cmd(address.subject(_lane(key, address.lanes), topic), inbox, block, body))
            await client.flush()
            answer = json.loads((await answers.next_msg(_ANSWER_SECONDS)).data)
            if "error" in answer:
                raise ValueError(str(answer["error"]))

        yield send


@asynccontextmanager
async def _kafka(_app: MediatorApp, url: str) -> AsyncIterator[Send]:
    address = KafkaAddress.parse(url)
    names = Names(address.prefix)
    async with AIOKafkaProducer(bootstrap_servers=list(address.servers), max_request_size=1 << 25) as producer:

        async def send(topic: str, headers: Headers, body: bytes, key: str | None) -> None:
            record = [(name, _bytes(value)) for name, value in _pairs(headers)]
            record_key = None if key is None else key.encode()
            partition = _lane(key, address.lanes)
            await producer.send_and_wait(names.of(topic), body, record_key, partition, headers=record)

        yield send


_SENDING: Final[dict[str, Callable[[MediatorApp, str], AbstractAsyncContextManager[Send]]]] = {
    "memory": _in_process,
    "sql": _sql,
    "redis": _redis,
    "amqp": _rabbitmq,
    "nats": _nats,
    "kafka": _kafka,
}


def _pairs(headers: Headers) -> Sequence[tuple[str, str | bytes]]:
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


def _once(found: dict[str, Any], headers: Headers) -> dict[str, Any]:
    if len(found) != len(headers):
        raise ValueError("there is one header of a name here")
    return found


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _field(value: str | bytes) -> str | bytearray:
    return bytearray(value) if isinstance(value, bytes) else value


def _line(name: str, value: str | bytes) -> bytes:
    line = name.encode() + b": " + _bytes(value)
    if any(end in line for end in b"\r\n") or ":" in name:
        raise ValueError("a line is a header here")
    return line + b"\r\n"


def _lane(key: str | None, lanes: int) -> int:
    return crc32((key or "").encode(errors="surrogatepass")) % lanes


def _parameter(url: str, name: str) -> str:
    values: Iterable[str] = parse_qs(urlsplit(url).query)[name]
    return next(iter(values))
