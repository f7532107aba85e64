"""The transport over RabbitMQ keeps every promise of the protocol, and those that only this broker can break."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aiormq
import pytest
import pytest_asyncio
from aiormq.abc import AbstractChannel, ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from structlog.testing import capture_logs

from mediator.errors import BrokerError, PublishRefusedError, SettingsError, TransportUnavailableError
from mediator.messaging.transport import Delivery, Settlement, Subscription, Transport, lane_of
from mediator.testing import TransportSuite
from mediator.transports import transport_for
from mediator.transports.rabbitmq import RabbitMQTransport
from mediator.transports.rabbitmq.topology import Names, short
from tests.storage.rows import eventually
from tests.support.brokers import Brokers
from tests.support.envelopes import GROUP, TOPIC, acknowledge, envelope, outcomes, received
from tests.support.proxy import Proxy
from tests.support.rabbitmq import SHARED, Recorded, removed
from tests.support.strangers import web_server

LANES = 2
SOON, A_MOMENT = timedelta(seconds=20), timedelta(milliseconds=300)

pytestmark = pytest.mark.usefixtures("rabbitmq")


class TestRabbitMQ(TransportSuite):
    @pytest.fixture(autouse=True)
    def _short_farewell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The suite hands lanes over without settling what was fetched of them."""
        monkeypatch.setattr("mediator.transports.rabbitmq.subscription._FAREWELL_SECONDS", 1.0)

    def make_transport(self, application: str) -> Transport:
        return Recorded(f"{SHARED}?prefix={application}&lanes=4")

    async def clean_up(self, application: str) -> None:
        await removed(application)

    async def break_connection(self, transport: Transport) -> None:
        assert isinstance(transport, RabbitMQTransport)
        for connection in (transport._publishing, transport._consuming):
            before = connection.epoch
            connection._wire.abort()
            await eventually(lambda connection=connection, before=before: connection.epoch > before)  # type: ignore[misc]


class TestRabbitMQWithTheClientsOwnPublishing(TestRabbitMQ):
    """What is taken where the client's channel is not what our writing was made for; it takes its time."""

    patience = timedelta(seconds=60)
    longest = timedelta(seconds=110)

    def make_transport(self, application: str) -> Transport:
        transport = Recorded(f"{SHARED}?prefix={application}&lanes=4")
        transport._publisher.writes_at_once = False
        transport._publisher.deadline = 50
        return transport


@pytest.fixture
def rabbitmq(brokers: Brokers) -> None:
    """The server that the tests share, which has to answer."""
    brokers.url("rabbitmq")


@pytest_asyncio.fixture
async def prefix(rabbitmq: None) -> AsyncIterator[str]:
    """The beginning of all names of a test."""
    name = f"test-{uuid4().hex[:12]}"
    yield name
    await removed(name)


@pytest_asyncio.fixture
async def transport(prefix: str) -> AsyncIterator[Recorded]:
    """A transport that is open and provisioned."""
    transport = made(prefix)
    await transport.open()
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    yield transport
    await transport.close()


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[AbstractChannel]:
    """Somebody else's connection to the broker."""
    async with aiormq.connect(SHARED) as connection:
        yield await connection.channel()


def made(prefix: str, url: str = SHARED, **options: object) -> Recorded:
    return Recorded(url + "?" + "&".join(f"{k}={v}" for k, v in {"prefix": prefix, "lanes": LANES, **options}.items()))


async def join(transport: Transport, prefetch: int = 100) -> Subscription:
    subscription = await transport.subscribe(GROUP, [TOPIC], prefetch)
    await subscription.take(range(LANES))
    return subscription


# --- messages of others -----------------------------------------------------------------------------------------------


async def send(channel: AbstractChannel, transport: RabbitMQTransport, properties: Basic.Properties) -> None:
    await channel.basic_publish(
        b"\xff body", exchange=transport._names.exchange, routing_key=f"1.{TOPIC}", properties=properties
    )


async def test_headers_of_others_are_told_as_text_as_far_as_they_can(
    transport: Recorded, channel: AbstractChannel
) -> None:
    subscription = await join(transport)
    headers: dict[str, Any] = {
        "cloudEvents:id": "0199", "cloudEvents_source": "/x", "CE-Type": "a.b",
        "cloudEvents:time": datetime(2026, 1, 1, tzinfo=UTC), "number": 7, "flag": True, "price": Decimal("1.5"),
        "bytes": bytearray(b"text"), "no-text": bytearray(b"\xff\xfe"), "table": {"a": 1}, "list": [1], "nothing": None,
        "x-delivery-count": "many",
    }  # fmt: skip

    await send(channel, transport, Basic.Properties(headers=headers, content_type="text/plain"))
    (delivery,) = await received(subscription, 1, settle=False)

    assert dict(delivery.headers) == {
        "ce-id": "0199", "ce-source": "/x", "ce-type": "a.b", "ce-time": "2026-01-01T00:00:00+00:00",
        "number": "7", "flag": "true", "price": "1.5", "bytes": "text", "x-delivery-count": "many",
        "content-type": "text/plain",
    }  # fmt: skip
    assert (delivery.topic, delivery.body, delivery.lane) == (TOPIC, b"\xff body", 1)
    assert (delivery.event_id, delivery.key, delivery.attempt) == ("0199", None, 1)
    await acknowledge(subscription, delivery)
    await subscription.close()
    assert not await (await join(transport)).fetch(1, A_MOMENT)


@pytest.mark.parametrize("part", ["message_id", "content_type", "header", "value", "topic", "timestamp"])
async def test_bytes_that_are_no_text_are_delivered(transport: Recorded, channel: AbstractChannel, part: str) -> None:
    subscription = await join(transport)
    texts: dict[str, dict[str, Any]] = {
        "header": {"headers": {"XXXX": "a"}},
        "value": {"headers": {"a": "XXXX"}},
        "timestamp": {"timestamp": datetime.fromtimestamp(int.from_bytes(b"XXXX", "big"), UTC)},
        "topic": {},
    }
    where = texts.get(part, {part: "XXXX"})
    await transport.provision([], {GROUP: ["other.#"]})
    topic = "other.XXXX" if part == "topic" else TOPIC
    frames: list[Any] = [
        Basic.Publish(exchange=transport._names.exchange, routing_key=f"1.{topic}"),
        ContentHeader(body_size=4, properties=Basic.Properties(**where)),
        ContentBody(b"body"),
    ]
    payload = ChannelFrame.marshall(channel.number, frames).payload
    payload = payload.replace(bytes(4) + b"XXXX", b"\x7f" * 8).replace(b"XXXX", b"\xff\xfe\xfd\xfc")

    assert isinstance(channel, Channel)
    await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
    (delivery,) = await received(subscription, 1, settle=False)

    assert (delivery.topic, delivery.body) == (topic.replace("X", "?"), b"body")
    await acknowledge(subscription, delivery)
    await outcomes(transport, envelope("next"))
    assert [next_one.body for next_one in await received(subscription, 1, settle=False)] == [b"next"]


async def test_a_message_without_anything_is_delivered(transport: Recorded, channel: AbstractChannel) -> None:
    subscription = await join(transport)

    queue = transport._names.queue(GROUP, 0)
    await channel.basic_publish(b"", routing_key=queue, properties=Basic.Properties())
    (delivery,) = await received(subscription, 1, settle=False)

    assert (delivery.topic, dict(delivery.headers), delivery.body) == (queue, {}, b"")
    await acknowledge(subscription, delivery)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"body": bytes(16 * 1024 * 1024 + 1)}, "its body has 16777217 bytes"),
        ({"headers": {f"h{number}": "x" * 8000 for number in range(30)}}, "its headers have"),
        ({"headers": {"CC": "elsewhere"}}, "its header CC"),
        ({"headers": {"BCC": "elsewhere"}}, "its header BCC"),
        ({"topic": "t" * 254}, "its topic has more than 255 bytes"),
        ({"source": "\ud800"}, "surrogates not allowed"),
    ],
    ids=["body", "headers", "CC", "BCC", "topic", "surrogate"],
)
async def test_what_the_broker_would_hang_up_for_is_refused_alone(
    transport: Recorded, wrong: dict[str, Any], why: str
) -> None:
    bad, good, behind = envelope(**{"key": "order-1", **wrong}), envelope(key="order-2"), envelope(key="order-1")
    await transport.provision([bad.topic], {})

    results = {id(sent): error for sent, error in await outcomes(transport, bad, good, behind)}

    assert isinstance(error := results[id(bad)], PublishRefusedError)
    assert why in str(error)
    assert results[id(behind)] is error
    assert results[id(good)] is None
    assert transport._publishing.epoch == 1, "the connection is still the first one"


async def test_a_large_body_is_cut_into_frames(transport: Recorded) -> None:
    subscription = await join(transport)
    sizes = [131_072 - 8, 131_072 - 7, 131_072, 262_128, 1_000_000]
    batch = [envelope(bytes([number]) * size) for number, size in enumerate(sizes)]

    assert [error for _, error in await outcomes(transport, *batch)] == [None] * len(sizes)

    came = await received(subscription, len(sizes), settle=False)
    assert {delivery.event_id: delivery.body for delivery in came} == {str(sent.event_id): sent.body for sent in batch}
    await acknowledge(subscription, *came)


async def test_a_queue_that_is_full_stops_the_key_and_loses_nothing(prefix: str, channel: AbstractChannel) -> None:
    transport = made(prefix, lanes=1)
    await transport.open()
    await transport.provision([TOPIC], {})
    names = Names(prefix, 1)
    arguments = {**transport._topology.arguments(), "x-max-length": 3}
    await channel.queue_declare(names.queue(GROUP, 0), durable=True, arguments=arguments)
    await channel.queue_bind(names.queue(GROUP, 0), names.exchange, "0.#")
    try:
        batch = [envelope(str(number), key="order-1") for number in range(20)]

        results = await outcomes(transport, *batch)

        confirmed = [sent for sent, error in results if error is None]
        assert 3 <= len(confirmed) < 20
        assert confirmed == batch[: len(confirmed)]
        errors = {id(error): error for _, error in results if error is not None}
        assert len(errors) == 1, "what follows ends with the same error"
        (error,) = errors.values()
        assert isinstance(error, TransportUnavailableError)
        assert "full" in str(error)
        subscription = await transport.subscribe(GROUP, [TOPIC], 100)
        await subscription.take([0])
        came = await received(subscription, len(confirmed), settle=False)
        assert [delivery.body for delivery in came] == [sent.body for sent in confirmed]
        assert not await subscription.fetch(1, A_MOMENT)
    finally:
        await transport.close()
        await channel.queue_delete(names.queue(GROUP, 0))


async def test_envelopes_of_a_key_are_sent_one_after_the_other(transport: Recorded) -> None:
    under_way: list[int] = []
    write = transport._publisher._write

    async def watched(channel: AbstractChannel, messages: Any) -> Any:
        under_way.append(len(messages))
        return await write(channel, messages)

    transport._publisher._write = watched  # type: ignore[method-assign]
    await outcomes(transport, *(envelope(key="order-1") for _ in range(3)), *(envelope() for _ in range(4)))

    assert under_way == [5, 1, 1]


async def test_a_client_whose_channel_is_another_one_publishes_in_its_own_way(
    transport: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.transports.rabbitmq.writing._PARTS", ("what_aiormq_8_may_not_have",))
    monkeypatch.setattr("mediator.transports.rabbitmq.publishing.written_at_once", None)

    assert [error for _, error in await outcomes(transport, envelope(), envelope())] == [None, None]


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("amqp://", "user:password@host"),
        ("amqp://u:secret@/x", "user:password@host"),
        ("amqp://u:sec/ret@host", "in a password"),
        ("amqp://u:secret@host:70000", "in a password"),
        ("amqp://u:secret@host#x", "user:password@host"),
        ("amqp://u:secret@host?lane=3", "lane"),
        ("amqp://u:secret@host?lanes=0", "lanes"),
        ("amqp://u:secret@host?lanes=129", "lanes"),
        ("amqp://u:secret@host?lanes=many", "lanes"),
        ("amqp://u:secret@host?lanes=٣", "lanes"),
        ("amqp://u:secret@host?lanes=2&lanes=3", "lanes"),
        ("amqp://u:secret@host?prefix=", "prefix"),
        ("amqp://u:secret@host?prefix=a%20b", "prefix"),
        ("amqp://u:secret@host?prefix=amq.x", "prefix"),
        ("amqp://u:secret@host?prefix=" + "x" * 61, "prefix"),
        ("amqp://u:secret@host?heartbeat=0", "heartbeat"),
        ("amqp://u:secret@host?cafile=x.pem", "cafile"),
        ("amqps://u:secret@host?no_verify_ssl=1", "no_verify_ssl"),
    ],
)
def test_a_url_that_cannot_work_is_refused_without_telling_secrets(url: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        transport_for(url)

    assert named in str(refused.value)
    assert "sec" not in str(refused.value).replace("secrets", "")


def test_the_scheme_is_the_name_and_the_lanes_are_in_the_url() -> None:
    secure, usual = transport_for("amqps://u:p@host/vhost?lanes=7&cafile=x.pem"), transport_for("amqp://host")

    assert (secure.name, secure.capabilities.lanes) == ("amqps", 7)
    assert (usual.name, usual.capabilities.lanes) == ("amqp", 16)
    assert usual.capabilities.durable
    assert usual.capabilities.wildcards
    assert not usual.capabilities.in_process


def with_parts(**parts: str) -> str:
    found = {"user": "guest", "password": "guest", "port": "5672", "vhost": "", **parts}
    host = SHARED.rpartition("@")[2].partition(":")[0]
    return f"amqp://{found['user']}:{found['password']}@{host}:{found['port']}/{found['vhost']}"


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"password": "s3cr3t"}, "refuses the user or the password"),
        ({"user": "nobody", "password": "s3cr3t"}, "refuses the user or the password"),
        ({"vhost": "nowhere"}, "refuses the virtual host"),
        ({"port": "1"}, "cannot be reached"),
    ],
)
async def test_what_is_wrong_with_an_address_is_told_at_the_start(parts: dict[str, str], what: str) -> None:
    transport = transport_for(with_parts(**parts))

    with pytest.raises(BrokerError, match=what) as refused:
        await transport.open()

    assert "amqp://" in str(refused.value)
    assert "s3cr3t" not in str(refused.value) + repr(transport)
    await transport.close()


async def test_something_else_that_answers_is_told_at_the_start() -> None:
    async with web_server() as port:
        transport = transport_for(f"amqp://guest:s3cr3t@127.0.0.1:{port}")

        with pytest.raises(BrokerError, match=r"does not speak AMQP|cannot be reached") as refused:
            await transport.open()

    assert "s3cr3t" not in str(refused.value)


async def test_a_broker_that_says_nothing_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediator.transports.rabbitmq.connection._CONNECT_SECONDS", 0.5)
    async with Proxy(SHARED) as proxy:
        proxy.hold()

        with pytest.raises(BrokerError, match="no answer within"):
            await transport_for(proxy.url).open()


# --- a network that breaks --------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with Proxy(SHARED) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def far(transport: Recorded, prefix: str, proxy: Proxy) -> AsyncIterator[RabbitMQTransport]:
    """A transport behind a network that the test can break; what it needs is provisioned by the other one."""
    far = RabbitMQTransport(f"{proxy.url}?prefix={prefix}&lanes={LANES}")
    await far.open()
    yield far
    proxy.release()
    await far.close()


async def test_nobody_waits_for_a_network_that_stands_still(far: RabbitMQTransport, proxy: Proxy) -> None:
    subscription = await join(far)
    assert [error for _, error in await outcomes(far, envelope("before"))] == [None]
    await acknowledge(subscription, *await received(subscription, 1, settle=False))
    far._publisher.deadline = 0.5
    proxy.hold()

    async with asyncio.timeout(SOON.total_seconds()):
        results = await outcomes(far, *(envelope(bytes(100_000), key=f"order-{n % 3}") for n in range(60)))
        assert await subscription.fetch(10, A_MOMENT) == []

    assert len(results) == 60
    assert {type(error) for _, error in results} == {TransportUnavailableError}


async def test_a_channel_that_confirms_nothing_is_replaced(far: RabbitMQTransport, proxy: Proxy) -> None:
    assert [error for _, error in await outcomes(far, envelope("before"))] == [None]
    used = far._publisher._channel
    far._publisher.deadline = 0.5
    proxy.hold(to_server=False)
    ((_, error),) = await outcomes(far, envelope("meanwhile"))
    proxy.release()
    far._publisher.deadline = 10

    assert "confirmed nothing" in str(error)
    assert [error for _, error in await outcomes(far, envelope("after"))] == [None]
    assert far._publisher._channel is not used
    assert far._publishing.epoch == 1


async def test_closing_does_not_wait_for_a_network_that_stands_still(far: RabbitMQTransport, proxy: Proxy) -> None:
    subscription = await join(far)
    await outcomes(far, envelope(), envelope())
    first, second = await received(subscription, 2, settle=False)
    publication = asyncio.create_task(outcomes(far, envelope()))
    proxy.hold()

    async with asyncio.timeout(SOON.total_seconds()):
        await acknowledge(subscription, first)
        await subscription.settle([(second, Settlement.GIVE_BACK)])
        await far.close()
        ((_, error),) = await publication

    assert isinstance(error, TransportUnavailableError)


async def test_it_is_told_once_that_the_connection_is_lost_and_once_that_it_is_there_again(
    far: RabbitMQTransport, proxy: Proxy
) -> None:
    with capture_logs() as logs:
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: not far._publishing._up.is_set())
        assert not (await far.health()).ok
        ((_, error),) = await outcomes(far, envelope())
        await asyncio.sleep(0.5)
        await proxy.accept()
        await eventually(lambda: far._publishing._up.is_set() and far._consuming._up.is_set())

    assert isinstance(error, TransportUnavailableError)
    told = [(entry["event"], entry["log_level"], entry["connection"]) for entry in logs if "transport" in entry]
    assert sorted(told) == [
        ("transport.connected_again", "info", "consuming"),
        ("transport.connected_again", "info", "publishing"),
        ("transport.connection_lost", "warning", "consuming"),
        ("transport.connection_lost", "warning", "publishing"),
    ]
    assert "guest:guest" not in json.dumps(logs)


async def test_cuts_in_the_middle_lose_nothing_and_keep_the_order(far: RabbitMQTransport, proxy: Proxy) -> None:
    subscription = await join(far)
    batch = [envelope(str(number), key=f"order-{number % 7}") for number in range(1500)]
    first: dict[str | None, Delivery] = {}

    async def publish() -> None:
        waiting = list(batch)
        while waiting:
            confirmed = {id(sent) for sent, error in await outcomes(far, *waiting[:300]) if error is None}
            waiting = [sent for sent in waiting if id(sent) not in confirmed]
            await asyncio.sleep(0.02)

    async def consume() -> None:
        while len(first) < len(batch):
            came = await subscription.fetch(50, A_MOMENT)
            for delivery in came:
                first.setdefault(delivery.event_id, delivery)
            await acknowledge(subscription, *came)

    async def cut() -> None:
        for _ in range(5):
            await asyncio.sleep(0.5)
            proxy.cut()

    consuming = asyncio.create_task(consume())
    async with asyncio.timeout(90):
        await asyncio.gather(publish(), cut())
    await asyncio.wait([consuming], timeout=SOON.total_seconds())
    consuming.cancel()

    assert len(first) == len(batch)

    for key in range(7):
        numbers = [int(delivery.body) for delivery in first.values() if delivery.key == f"order-{key}"]
        assert numbers == list(range(key, 1500, 7))
    assert proxy.accepted >= 4, "it was cut"


# --- lanes ------------------------------------------------------------------------------------------------------------


async def test_who_takes_a_lane_that_somebody_has_gets_nothing_before_that_one_is_gone(
    transport: Recorded, prefix: str
) -> None:
    one, other = made(prefix), made(prefix)
    await one.open()
    await other.open()
    first, second = await join(one, prefetch=4), await join(other)
    batch = [envelope(str(number), key="order-1") for number in range(10)]
    await outcomes(transport, *batch)

    had = await received(first, 2, settle=False)
    assert await second.fetch(10, A_MOMENT) == []
    await one.close()

    came = await received(second, 10, settle=False)
    assert [delivery.body for delivery in had] == [b"0", b"1"]
    assert [delivery.body for delivery in came] == [sent.body for sent in batch]
    await acknowledge(second, *came)
    await other.close()


async def test_what_is_given_back_comes_again_with_all_that_follows_it(transport: Recorded) -> None:
    subscription = await join(transport)
    batch = [envelope(str(number), key="order-1") for number in range(6)]
    await outcomes(transport, *batch)
    zero, one, two, _ = await received(subscription, 4, settle=False)

    await subscription.settle([(two, Settlement.GIVE_BACK)])
    await acknowledge(subscription, zero)
    came = await received(subscription, 5, settle=False)
    await acknowledge(subscription, one)

    assert [delivery.body for delivery in came] == [b"1", b"2", b"3", b"4", b"5"]
    assert all(delivery.epoch > two.epoch for delivery in came)
    await acknowledge(subscription, *came)
    await subscription.close()
    assert not await (await join(transport)).fetch(10, A_MOMENT)


async def test_a_lane_whose_deliveries_nobody_settles_is_handed_over_after_a_moment(
    transport: Recorded, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.transports.rabbitmq.subscription._FAREWELL_SECONDS", 0.5)
    giving = await join(transport)
    sent = envelope(key="order-1")
    await outcomes(transport, sent)
    (stuck,) = await received(giving, 1, settle=False)
    taking = await transport.subscribe(GROUP, [TOPIC], 10)

    await giving.take([])
    await taking.take([lane_of(sent, LANES)])
    (again,) = await received(taking, 1, settle=False)

    await acknowledge(giving, stuck)
    assert (again.event_id, again.attempt) == (stuck.event_id, 2)
    await acknowledge(taking, again)


async def test_what_waits_in_the_process_is_bounded(transport: Recorded) -> None:
    subscription = await join(transport, prefetch=80)
    await outcomes(transport, *(envelope() for _ in range(400)))
    waiting = subscription._buffer  # type: ignore[attr-defined]

    await eventually(lambda: len(waiting) == 50 * LANES)
    came = await received(subscription, 80, settle=False)
    assert not await subscription.fetch(10, A_MOMENT)

    assert len(waiting) == 50 * LANES - 80
    await acknowledge(subscription, *came)
    assert len(await received(subscription, 80, settle=False)) == 80


async def test_the_backlog_is_what_waits_and_what_is_not_settled_here(transport: Recorded) -> None:
    subscription = await join(transport, prefetch=4)
    assert await transport.backlog([GROUP]) == {GROUP: 0}
    await outcomes(transport, *(envelope(key="order-1") for _ in range(10)))
    first, *_ = await received(subscription, 2, settle=False)

    assert await transport.backlog([GROUP, "shop.nobody"]) == {GROUP: 10, "shop.nobody": 0}
    await acknowledge(subscription, first)
    # It has room for four, and one of them is fetched.
    await eventually(lambda: len(subscription._buffer) == 3)  # type: ignore[attr-defined]

    assert await transport.backlog([GROUP]) == {GROUP: 9}


async def test_a_queue_that_is_deleted_is_missed_and_consumed_from_when_it_is_there_again(
    transport: Recorded, channel: AbstractChannel
) -> None:
    subscription = await join(transport)
    with capture_logs() as logs:
        for lane in range(LANES):
            await channel.queue_delete(transport._names.queue(GROUP, lane))
        await eventually(lambda: any(entry["event"] == "transport.lane_unavailable" for entry in logs))
        assert await subscription.fetch(1, A_MOMENT) == []

    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    await outcomes(transport, envelope("again"))

    (delivery,) = await received(subscription, 1, settle=False)
    assert delivery.body == b"again"
    assert sum(entry["event"] == "transport.lane_unavailable" for entry in logs) == 1


# --- what stands on the broker ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("create", [True, False])
async def test_another_number_of_lanes_is_told(transport: Recorded, prefix: str, create: bool) -> None:
    other = made(prefix, lanes=3)
    await other.open()

    with pytest.raises(BrokerError, match=r"another number of lanes.*\?lanes="):
        await RabbitMQTransport.provision(other, [TOPIC], {GROUP: [TOPIC]}, create=create)

    await other.close()


async def test_a_queue_of_another_kind_is_told(prefix: str, channel: AbstractChannel) -> None:
    name = Names(prefix, LANES).queue(GROUP, 0)
    await channel.queue_declare(name, durable=True)
    transport = made(prefix)
    await transport.open()

    with pytest.raises(BrokerError, match=rf"{name}.*Delete it when it is empty"):
        await transport.provision([TOPIC], {GROUP: [TOPIC]})

    await transport.close()


async def test_more_channels_than_the_broker_allows_are_told(transport: Recorded) -> None:
    transport._consuming.most_channels = LANES
    await join(transport)

    with pytest.raises(BrokerError, match="channel_max"):
        await transport.subscribe(GROUP, [TOPIC], 10)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"version": "3.7.28"}, "version"),
        ({"version": ""}, "version"),
        ({"product": "LavinMQ"}, "product"),
        ({"capabilities": {}}, "capability publisher_confirms"),
    ],
)
async def test_a_broker_that_cannot_keep_the_promises_is_told(
    transport: Recorded, change: dict[str, Any], where: str
) -> None:
    assert await transport.check() == []
    transport._publishing.properties |= change

    faults = await transport.check()

    assert where in [fault.where for fault in faults]


@pytest.mark.parametrize(("version", "limit"), [("3.10.8", None), ("3.13.7", None), ("4.0.2", -1), ("4.2.0-rc.1", -1)])
async def test_the_queues_never_drop_what_was_delivered_often(
    transport: Recorded, version: str, limit: int | None
) -> None:
    transport._publishing.properties["version"] = version

    assert transport._topology.arguments().get("x-delivery-limit") == limit


def test_names_that_are_too_long_or_unspeakable_are_shortened_and_stay_different() -> None:
    names = ["plain.name", "a" * 127, "a" * 128, "a" * 129, "shop.*.orders", "shop._.orders", "shop.ü", "shop.ö"]

    shortened = [short(name) for name in names]

    assert shortened[:2] == names[:2]
    assert shortened == [short(name) for name in names]
    assert len(set(shortened)) == len(names)
    assert all(len(name) <= 127 and name.isascii() and "*" not in name for name in shortened)
