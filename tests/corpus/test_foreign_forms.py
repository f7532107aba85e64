"""Messages that only one broker can carry, as somebody who does not know us puts them there.

Each is kept or passed over, and what comes after it is handled: the worker lives, and stops at nothing.
"""

import asyncio
import gzip
from datetime import timedelta
from typing import Any

import aiormq
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from nats.protocol.command import hpub_cmd
from pamqp.commands import Basic
from sqlalchemy import text

from mediator import MediatorApp
from mediator.operations.dead_letters import DeadLetter
from mediator.transports import SqlTransport
from mediator.transports.kafka import KafkaTransport
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.kafka.publishing import send
from mediator.transports.nats.address import NatsAddress
from mediator.transports.rabbitmq.address import address_of
from mediator.transports.rabbitmq.subscription import RabbitMQSubscription
from tests.corpus.cases import CASES
from tests.corpus.events import depot
from tests.corpus.places import Place
from tests.support import AppFactory, effects
from tests.support.foreign import add_fields, put
from tests.support.nats import plain

GOOD = next(case for case in CASES if case.name == "bytes/good")
WAIT_SECONDS = 20


NATS = pytest.mark.parametrize("place", ["nats"], indirect=True)


async def letters_after(app: MediatorApp, place: Place, keys: tuple[str | None, ...] = (None,)) -> list[DeadLetter]:
    """What is kept once something good that was put behind it, in the lanes of these keys, is handled."""
    for key in keys:
        await put(app, place.url, GOOD.topic, GOOD.headers, GOOD.body, key)
    async with asyncio.timeout(WAIT_SECONDS):
        while not await effects(app):  # noqa: ASYNC110 - there is nobody who would tell
            await asyncio.sleep(0.05)
    await app.drained()
    assert await effects(app) == [("stored", GOOD.name)]
    return list(await app.dead_letters.list())


BLOCKS = {
    "a status": b"NATS/1.0 404\r\n\r\n",
    "a status that is no text": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    "a reason that is no text": b"NATS/1.0 404 \xff\xff\r\n\r\n",
    "a line and no more": b"NATS/1.0\r\n",
    "less than a line": b"X",
    "another protocol": b"HTTP/1.1 200 OK\r\nce-id: 1\r\n\r\n",
    "lines without a name": b"NATS/1.0\r\n: a\r\n:\r\nb\r\n\r\n",
    "noise": bytes(range(128, 256)) + b"\r\n\r\n",
}


@NATS
@pytest.mark.parametrize("block", BLOCKS)
async def test_nats_headers_that_are_none(block: str, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        await publish(place, NatsAddress.of(place.url).subject(0, GOOD.topic).encode(), BLOCKS[block])

        (letter,) = await letters_after(app, place)
        assert letter.body == b"raw"
        assert letter.reason in {"unreadable: header missing", "unreadable: headers"}


@NATS
@pytest.mark.parametrize("end", [b"\xff\xfe", b"k\xc3\xb6ln", b"a\x0bb", b"a\x0cb", b"a\x00b", b"%", b"a*b"])
async def test_nats_subjects_that_are_none(end: bytes, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        await publish(place, f"{NatsAddress.of(place.url).prefix}.0.".encode() + end, b"NATS/1.0\r\n\r\n")

        assert await letters_after(app, place) == []


async def publish(place: Place, subject: bytes, block: bytes) -> None:
    async with plain(place.url.partition("?")[0]) as client:
        command = hpub_cmd("SUBJECT", "", block, b"raw").replace(b"SUBJECT", subject)
        await client._send_command(command)
        await client.flush()


RABBITMQ = pytest.mark.parametrize("place", ["rabbitmq"], indirect=True)


def table_of(levels: int) -> bytes:
    """A header table in a table in a table."""
    inner = b""
    for _ in range(levels):
        inner = b"\x01aF" + len(inner).to_bytes(4) + inner
    return len(inner).to_bytes(4) + inner


TABLES = {
    "5000 tables in each other": table_of(5_000),
    "10 tables in each other": table_of(10),
    "a moment beyond all calendars": b"\x00\x00\x00\x0b\x01aT" + b"\x7f" + b"\xff" * 7,
    "a number of all places": b"\x00\x00\x00\x08\x01aD\xff" + b"\x7f\xff\xff\xff",
    "a list that ends too late": b"\x00\x00\x00\x07\x01aA\x7f\xff\xff\xff",
    "a kind that there is not": b"\x00\x00\x00\x03\x01a?",
    "a name that is no text": b"\x00\x00\x00\x07\x01\xffS\x00\x00\x00\x00",
}


@RABBITMQ
@pytest.mark.parametrize("table", TABLES)
async def test_rabbitmq_tables_that_the_client_cannot_read(table: str, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        is_taken = await send_table(place, TABLES[table])

        letters = await letters_after(app, place)
        assert [(letter.body, letter.reason) for letter in letters] == [
            (b"raw", "unreadable: header missing") for _ in range(is_taken)
        ]


async def send_table(place: Place, table: bytes) -> bool:
    """Put a message with these bytes as its headers; whether the broker took it."""
    address = address_of(place.url)
    async with aiormq.connect(address.url("somebody else")) as connection:
        channel = await connection.channel()

        class Properties(Basic.Properties):
            def marshal(self) -> bytes:
                return b"\x20\x00" + table

        try:
            answer = await channel.basic_publish(
                b"raw", exchange=address.prefix, routing_key=f"0.{GOOD.topic}", properties=Properties(), timeout=10
            )
        except (aiormq.AMQPError, ConnectionError):
            return False
        return isinstance(answer, Basic.Ack)


@RABBITMQ
async def test_rabbitmq_counts_only_its_own_deliveries(
    place: Place, make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen, fetch = address_of(place.url), list[int](), RabbitMQSubscription.fetch

    async def watched(self: RabbitMQSubscription, at_most: int, timeout: timedelta) -> Any:
        found = await fetch(self, at_most, timeout)
        seen.extend(delivery.attempt for delivery in found)
        return found

    monkeypatch.setattr(RabbitMQSubscription, "fetch", watched)
    async with make_app(depot(), transport=place.url) as app:
        async with aiormq.connect(address.url("somebody else")) as connection:
            channel = await connection.channel()
            counts = {"x-delivery-count": 1_000_000_000, "x-acquired-count": 2**62}
            await channel.basic_publish(
                GOOD.body,
                exchange=address.prefix,
                routing_key=f"0.{GOOD.topic}",
                properties=Basic.Properties(headers={**dict(GOOD.headers), **counts}),
            )

        assert await letters_after(app, place) == []
    assert set(seen) == {1}


REDIS = pytest.mark.parametrize("place", ["redis"], indirect=True)
ENTRIES: dict[str, list[tuple[str | bytes, str | bytes]]] = {
    "other fields": [("event", "parcel arrived"), ("weight", "1")],
    "fields in another order": [("body", "{}"), ("topic", GOOD.topic)],
    "no topic": [("body", "{}")],
    "empty names and values": [("", ""), ("", "")],
    "names and values that are no text": [(b"\xff", b"\xfe"), (b"\x00", b"\r\n*1\r\n")],
    "a name twice": [("topic", GOOD.topic), ("topic", GOOD.topic), ("body", "{}")],
    "a thousand fields": [(f"field-{number}", "a") for number in range(1_000)],
}


@REDIS
@pytest.mark.parametrize("entry", ENTRIES)
async def test_redis_entries_of_another_form(entry: str, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        await add_fields(place.url, 0, ENTRIES[entry])

        (letter,) = await letters_after(app, place)
        assert letter.reason in {"unreadable: header missing", "unreadable: headers"}
        for name, value in ENTRIES[entry]:
            for part in (name, value):
                assert (part.encode() if isinstance(part, str) else part) in letter.body


@REDIS
@pytest.mark.parametrize("topic", [b"\xff", b"", b"#", b"*", b"test.depot.public.parcels.v1\n", b"a" * 10_000])
async def test_redis_topics_of_nobody_are_passed_over(topic: bytes, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        await add_fields(place.url, 0, [("topic", topic), ("body", "{}")])

        assert await letters_after(app, place) == []


LENGTH, CHECKSUM = slice(8, 12), slice(17, 21)
ATTRIBUTES, CONTENT = 22, 61
KAFKA = pytest.mark.parametrize("place", ["kafka"], indirect=True)


RECORDS: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = {
    "a tombstone": (b"a", None, []),
    "a key that is no text": (b"\xff\xfe", b"raw", []),
    "an empty key": (b"", b"raw", []),
    "a header without a value": (None, b"raw", [("x-note", None)]),
    "an empty name": (None, b"raw", [("", b"a")]),
}


@KAFKA
@pytest.mark.parametrize("record", RECORDS)
async def test_kafka_records_of_another_form(record: str, place: Place, make_app: AppFactory) -> None:
    key, value, headers = RECORDS[record]
    address = KafkaAddress.parse(place.url)
    async with make_app(depot(), transport=place.url) as app:
        async with AIOKafkaProducer(bootstrap_servers=list(address.servers)) as producer:
            topic = Names(address.prefix).of(GOOD.topic)
            await producer.send_and_wait(topic, value, key, 0, headers=headers)

        (letter,) = await letters_after(app, place)
        assert letter.body == (value or b"")
        assert letter.reason in {"unreadable: header missing", "unreadable: headers"}


@KAFKA
@pytest.mark.parametrize("is_compressed", [False, True])
async def test_kafka_names_of_headers_that_are_no_text(is_compressed: bool, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        transport = app.transport
        assert isinstance(transport, KafkaTransport)
        partition = TopicPartition(transport._names.of(GOOD.topic), 0)
        broker = transport._cluster.leader(partition)
        assert broker is not None
        for batch in (named(b"x-a", is_compressed), named(b"\xff\xfe-", is_compressed), named(b"x-b", is_compressed)):
            assert await send(transport._cluster, broker, {partition: batch}) == {partition: None}

        letters = await letters_after(app, place)
        assert [(letter.body, letter.reason, dict(letter.headers)) for letter in letters] == [
            (b"raw", "unreadable: header missing", {name: "a"}) for name in ("x-a", "??-", "x-b")
        ]


def named(name: bytes, is_compressed: bool) -> bytes:
    """A batch with a record whose header has this name of three bytes."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    builder.append(0, None, None, b"raw", [("***", b"a")])
    batch = bytearray(bytes(builder.build()).replace(b"***", name))
    if is_compressed:
        batch[ATTRIBUTES] = batch[ATTRIBUTES] | 1
        batch[CONTENT:] = gzip.compress(batch[CONTENT:])
        batch[LENGTH] = (len(batch) - LENGTH.stop).to_bytes(4)
    batch[CHECKSUM] = calc_crc32c(bytes(batch[CHECKSUM.stop :])).to_bytes(4)
    return bytes(batch)


SQL = pytest.mark.parametrize("place", ["sql"], indirect=True)
COLUMNS: dict[str, str] = {
    "headers that are no JSON": "headers = 'a: b'",
    "headers that are a list": "headers = '[1]'",
    "headers that are numbers": """headers = '{"ce-id": 7, "x": null, "y": {"z": []}}'""",
    "headers without an end": "headers = '{\"a\": '",
    "headers too deep": f"headers = '{'[' * 50_000}'",
    "headers with half a pair": """headers = '{"x-note": "\\ud800"}'""",
    "a key of nobody": "partition_key = 'of somebody else'",
}


@SQL
@pytest.mark.parametrize("column", COLUMNS)
async def test_sql_rows_of_another_form(column: str, place: Place, make_app: AppFactory) -> None:
    async with make_app(depot(), transport=place.url) as app:
        transport = app.transport
        assert isinstance(transport, SqlTransport)
        async with transport.database.begin() as connection:
            row = {
                "group_name": "shop.depot",
                "lane": 0,
                "position": 1,
                "event_id": bytes(16),
                "topic": GOOD.topic,
                "headers": "{}",
                "body": b"raw",
                "attempts": 0,
            }
            names = ", ".join(row)
            table = transport.database.tables.deliveries.name
            values = ", ".join(f":{name}" for name in row)
            await connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
            await connection.execute(text(f"UPDATE {table} SET {COLUMNS[column]}".replace(":", "\\:")))

        (letter,) = await letters_after(app, place)
        assert letter.body == b"raw"
        assert letter.reason in {"unreadable: header missing", "unreadable: headers"}
