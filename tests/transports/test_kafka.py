"""Kafka keeps every promise of the protocol, but the order of a key over several topics."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, OffsetOutOfRangeError
from cloudevents.v1.kafka import KafkaMessage, from_binary
from structlog.testing import capture_logs

from mediator.errors import BrokerError, PublishRefusedError
from mediator.messaging.cloudevents import from_headers
from mediator.messaging.transport import Settlement, Subscription, Transport
from mediator.testing import TransportSuite
from mediator.testing.conformance.promises import promise
from mediator.testing.conformance.trial import BILLING, STOCK, Trial
from mediator.transports.kafka import KafkaTransport, publishing
from tests.support.brokers import Brokers
from tests.support.envelopes import TOPIC, envelope, errors_of, received
from tests.support.kafka import admin, cut, delete_topics, made, make_topic, plain

GROUP, OTHER = BILLING, STOCK
LANES = range(4)
QUIET, SOON = timedelta(milliseconds=700), timedelta(seconds=20)


@pytest.fixture
def kafka_url(brokers: Brokers) -> str:
    """Where Kafka is for this run."""
    return brokers.url("kafka")


class TestKafkaTransport(TransportSuite):
    orders_across_topics = False
    settles_singly = False
    redelivers_after_break = False
    quiet = QUIET

    @pytest.fixture(autouse=True)
    def _find(self, kafka_url: str) -> None:
        self.url = kafka_url

    def make_transport(self, application: str) -> Transport:
        return KafkaTransport(f"{self.url}?prefix={application}&lanes=4")

    async def clean_up(self, application: str) -> None:
        await delete_topics(self.url, f"{application}.")

    async def break_connection(self, transport: Transport) -> None:
        assert isinstance(transport, KafkaTransport)
        cut(transport)

    @promise()
    async def test_it_tells_what_is_not_settled(self, trial: Trial) -> None:
        # One by one: the broker of the tests says that a topic ends behind the first record of its last request.
        await trial.provision(BILLING, STOCK)
        member = await trial.join()
        for sent in trial.numbered(5, keys=["order-1"]):
            await trial.send(sent)

        assert await trial.transport.backlog([BILLING, STOCK]) == {BILLING: 5, STOCK: 5}
        first, second, *others = await member.fetch(5)
        await member.acknowledge(first, second)
        await tells(trial.transport, {BILLING: 3, STOCK: 5})
        await member.acknowledge(*others)
        await tells(trial.transport, {BILLING: 0, STOCK: 5})


async def tells(transport: Transport, expected: Mapping[str, int]) -> None:
    """What is settled is committed a moment later."""
    async with asyncio.timeout(20):
        while await transport.backlog(list(expected)) != expected:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def prefix(kafka_url: str) -> AsyncIterator[str]:
    prefix = f"trial-{uuid4().hex[:12]}"
    yield prefix
    await delete_topics(kafka_url, f"{prefix}.")


@pytest_asyncio.fixture
async def transport(kafka_url: str, prefix: str) -> AsyncIterator[KafkaTransport]:
    """Open, with topics of the test's own."""
    async with opened(kafka_url, prefix) as transport:
        yield transport


class opened:  # noqa: N801 - used like a function
    """A process of an application."""

    def __init__(self, url: str, prefix: str, lanes: int = len(LANES)) -> None:
        self._transport = KafkaTransport(f"{url}?prefix={prefix}&lanes={lanes}")

    async def __aenter__(self) -> KafkaTransport:
        await self._transport.open()
        return self._transport

    async def __aexit__(self, *_error: object) -> None:
        await self._transport.close()


async def join(transport: KafkaTransport, group: str = GROUP, *topics: str) -> Subscription:
    subscription = await transport.subscribe(group, topics or [TOPIC], 100)
    await subscription.take(LANES)
    return subscription


async def settle(subscription: Subscription, how: Settlement, *deliveries: Any) -> None:
    await subscription.settle([(delivery, how) for delivery in deliveries])


async def send(transport: KafkaTransport, *bodies: str, topic: str = TOPIC, key: str | None = "order-1") -> None:
    sent = [envelope(body, topic=topic, key=key) for body in bodies]
    assert await errors_of(transport, *sent) == [None] * len(sent)


def attempts(deliveries: Any) -> list[tuple[str, int]]:
    return [(delivery.body.decode(), delivery.attempt) for delivery in deliveries]


async def test_others_read_it_as_a_cloud_event(transport: KafkaTransport, kafka_url: str, prefix: str) -> None:
    await transport.provision([TOPIC], {})
    sent = envelope('{"total": 3}', key="order-1", headers={"tenant": "shop"})

    assert await errors_of(transport, sent) == [None]

    (record,) = await records(kafka_url, f"{prefix}.{TOPIC}")
    headers = dict(record.headers)
    event = from_binary(KafkaMessage(headers, record.key, record.value), data_unmarshaller=bytes)
    assert (event["id"], event["type"], event.data) == (str(sent.event_id), "shop.order-placed.v1", sent.body)
    assert (record.key, headers["tenant"], headers["content-type"]) == (b"order-1", b"shop", b"application/json")


async def records(url: str, name: str) -> list[Any]:
    """All that is in a topic, whoever wrote it."""
    servers = url.partition("://")[2]
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        places = [TopicPartition(name, number) for number in LANES]
        consumer.assign(places)
        count = sum((await consumer.end_offsets(places)).values())
        found: list[Any] = []
        while len(found) < count:
            found += [one for some in (await consumer.getmany(timeout_ms=500)).values() for one in some]
        return found


FOREIGN: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], Mapping[str, str]]] = [
    (None, b"plain", [], {}),
    (b"\xff\xfe", b"\x00\xff", [("binary", b"\xff"), ("text", b"Zo\xc3\xab")], {"text": "Zo%C3%AB"}),
    (
        b"key",
        None,
        [("empty", None), ("ce_id", b"1"), ("twice", b"1"), ("twice", b"2")],
        {"empty": "", "ce-id": "1", "twice": "2"},
    ),
]


@pytest.mark.parametrize(("key", "value", "headers", "expected"), FOREIGN)
async def test_what_is_not_ours_arrives_as_far_as_it_is_text(
    transport: KafkaTransport,
    kafka_url: str,
    prefix: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    expected: Mapping[str, str],
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    async with plain(kafka_url) as producer:
        await producer.send_and_wait(f"{prefix}.{TOPIC}", value, key=key, headers=headers)
    await send(transport, "ours", key=None)

    found = {delivery.body: delivery for delivery in await received(subscription, 2)}

    assert (found[value or b""].topic, dict(found[value or b""].headers)) == (TOPIC, expected)
    assert from_headers(TOPIC, found[b"ours"].headers, b"").type == "shop.order-placed"


async def test_an_unknown_topic_is_refused_and_not_made(transport: KafkaTransport, kafka_url: str, prefix: str) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    before = await made(kafka_url, prefix)

    (refused,) = await errors_of(transport, envelope(topic="test.nowhere"))

    assert isinstance(refused, PublishRefusedError)
    assert "test.nowhere" in str(refused)
    with pytest.raises(BrokerError, match=r"topic test\.nowhere"):
        await transport.subscribe(GROUP, ["test.nowhere"], 10)
    assert await made(kafka_url, prefix) == before == [f"{prefix}.__groups", f"{prefix}.{TOPIC}"]


async def test_a_topic_that_is_deleted_is_not_made_again_by_reading_it(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    await delete_topics(kafka_url, f"{prefix}.{TOPIC}")

    assert not await subscription.fetch(10, QUIET)
    await transport._subscriptions[0]._reader._client.force_metadata_update()
    await transport._cluster.refresh()
    (refused,) = await errors_of(transport, envelope())

    assert isinstance(refused, PublishRefusedError)
    assert await made(kafka_url, prefix) == [f"{prefix}.__groups"]


async def test_what_is_too_large_is_refused_and_what_only_came_with_it_is_not(
    transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def limited(cluster: Any, broker: int, buffers: dict[TopicPartition, bytes]) -> Any:
        # The broker of the tests takes everything.
        taken = {place: buffer for place, buffer in buffers.items() if len(buffer) < 3000}
        refused = {place: MessageSizeTooLargeError for place in buffers if place not in taken}
        return {**(await real(cluster, broker, taken) if taken else {}), **refused}

    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    real = publishing.send
    monkeypatch.setattr(publishing, "send", limited)
    # Over four partitions, so that several of them would go together.
    sent = [envelope(size * "o") for size in (*range(1000, 1020), 5000)]

    *fine, refused = await errors_of(transport, *sent)

    assert fine == [None] * 20
    assert isinstance(refused, PublishRefusedError)
    assert "max.message.bytes" in str(refused)
    assert sorted(len(one.body) for one in await received(subscription, 20)) == list(range(1000, 1020))


async def test_what_follows_in_another_topic_waits_for_the_answer(
    transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(cluster: Any, broker: int, buffers: dict[TopicPartition, bytes]) -> Any:
        first = [place for place in buffers if place.topic.endswith("first")]
        others = {place: buffer for place, buffer in buffers.items() if place not in first}
        return {**await real(cluster, broker, others), **dict.fromkeys(first, MessageSizeTooLargeError)}

    await transport.provision(["test.first", "test.second"], {GROUP: ["test.second"]})
    subscription = await join(transport, GROUP, "test.second")
    real = publishing.send
    monkeypatch.setattr(publishing, "send", failing)
    first, behind = envelope("1", topic="test.first", key="a"), envelope("2", topic="test.second", key="a")

    results = await errors_of(transport, first, behind, envelope("3", topic="test.second", key="b"))

    assert [type(result) for result in results] == [PublishRefusedError, PublishRefusedError, type(None)]
    assert attempts(await received(subscription, 1)) == [("3", 1)]
    assert not await subscription.fetch(10, QUIET)


async def test_a_group_begins_where_topics_ended_when_it_was_made(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    await send(transport, "before")
    await transport.provision([TOPIC, "test.new"], {OTHER: ["test.#"]})
    await send(transport, "after")
    await send(transport, "new", topic="test.new")
    await transport.provision(["test.later"], {OTHER: ["test.#"]})
    await send(transport, "later", topic="test.later")

    # Made again by another process, and that changes nothing.
    async with opened(kafka_url, prefix) as process:
        await process.provision([TOPIC, "test.new", "test.later"], {OTHER: ["test.#"], GROUP: [TOPIC, "test.#"]})
        other, group = await join(process, OTHER, "test.#"), await join(process)

        assert {body for body, _ in attempts(await received(other, 3))} == {"after", "new", "later"}
        assert attempts(await received(group, 2)) == [("before", 1), ("after", 1)]
        assert not await other.fetch(10, QUIET)


async def test_a_topic_that_is_new_to_a_pattern_is_read_soon(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: ["test.#"]})
    subscription = await join(transport, GROUP, "test.#")

    async with opened(kafka_url, prefix) as process:
        await process.provision(["test.new"], {})
        await send(process, "1", topic="test.new")

    (delivery,) = await received(subscription, 1)
    assert (delivery.topic, delivery.body) == ("test.new", b"1")


async def test_a_pattern_means_topics_with_shortened_names_too(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    topic = "test.".ljust(249, "o")
    await transport.provision([topic], {GROUP: ["test.#"]})

    async with opened(kafka_url, prefix) as process:
        subscription = await join(process, GROUP, "test.#")
        await send(transport, "1", topic=topic)

        (delivery,) = await received(subscription, 1)
    assert delivery.topic == topic
    assert max(map(len, await made(kafka_url, prefix))) <= 249


async def test_what_a_killed_process_was_given_is_a_redelivery_and_the_rest_is_not(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    dying = await join(transport)
    await send(transport, "0", "1", "2", "3", "4")
    first, *_ = await received(dying, 3, settle=False)
    await settle(dying, Settlement.ACK, first)
    await asyncio.sleep(1)  # until that is committed; then it does nothing any more

    async with opened(kafka_url, prefix) as process:
        found = await received(await join(process), 4)

    assert attempts(found) == [("1", 2), ("2", 2), ("3", 1), ("4", 1)]


async def test_nothing_is_handed_out_that_could_not_be_noted_down(
    transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(group: str, offsets: Any) -> None:
        raise KafkaConnectionError("cut")

    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    await send(transport, "0", "1")
    with monkeypatch.context() as patch:
        patch.setattr(transport._subscriptions[0]._offsets, "_commit", failing)
        assert not await subscription.fetch(10, timedelta(seconds=1))

    assert attempts(await received(subscription, 2)) == [("0", 1), ("1", 1)]


async def test_giving_back_repeats_what_is_unsettled_from_there_on(transport: KafkaTransport) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    await send(transport, "0", "1", "2", "3", "4", "5")
    found = await received(subscription, 5, settle=False)
    await settle(subscription, Settlement.ACK, found[3])

    await settle(subscription, Settlement.GIVE_BACK, found[1])
    again = await received(subscription, 4, settle=False)
    await settle(subscription, Settlement.ACK, found[2], found[4])

    assert attempts(again) == [("1", 2), ("2", 2), ("4", 2), ("5", 1)]
    assert {one.epoch for one in again}.isdisjoint(one.epoch for one in found)
    await settle(subscription, Settlement.ACK, *again, found[0])
    await subscription.close()
    assert not await (await join(transport)).fetch(10, QUIET)


async def test_a_key_keeps_its_order_while_lanes_go_from_one_process_to_another(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    keys = [f"order-{number}" for number in range(10)]
    batch = [envelope(str(number), key=keys[number % 10]) for number in range(300)]
    async with opened(kafka_url, prefix) as process:
        leaving, staying = await join(transport), await process.subscribe(GROUP, [TOPIC], 100)
        assert await errors_of(transport, *batch) == [None] * 300

        came = await received(leaving, 100)
        abandoned = await received(leaving, 50, settle=False)
        await leaving.take([0, 1])
        await staying.take([2, 3])
        # What was under way of a lane that was given up may still be settled; half of it is not.
        await settle(leaving, Settlement.ACK, *(kept := [one for one in abandoned if one.lane < 2]))
        came += kept
        done = {one.event_id for one in came}
        while len(done) < 300:
            for subscription in (leaving, staying):
                more = await subscription.fetch(20, QUIET)
                await settle(subscription, Settlement.ACK, *more)
                came += more
                done.update(one.event_id for one in more)

    for key in keys:
        numbers = list(dict.fromkeys(int(one.body) for one in came if one.key == key))
        assert numbers == list(range(keys.index(key), 300, 10)), key


async def test_who_had_a_lane_before_does_not_set_back_who_has_it_now(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    late = await join(transport)
    await send(transport, "0", "1", "2", "3", "4")
    first, *_ = await received(late, 3, settle=False)
    await late.take(())
    async with opened(kafka_url, prefix) as process:
        await received(await join(process), 5)

    await settle(late, Settlement.ACK, first)

    assert not await (await join(transport)).fetch(10, QUIET)


async def test_it_goes_on_with_what_there_is_when_the_broker_has_removed_the_next_ones(
    transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    async def removed(*places: TopicPartition, **_options: Any) -> Any:
        monkeypatch.undo()
        raise OffsetOutOfRangeError({place: 7})

    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    # What is forgotten must not take up the room for what comes.
    subscription = await transport.subscribe(GROUP, [TOPIC], 3)
    await subscription.take(LANES)
    await send(transport, "0", "1")
    first, _ = before = await received(subscription, 2, settle=False)
    place = TopicPartition(f"{prefix}.{TOPIC}", first.lane)
    # The broker of the tests removes nothing, and answers nothing to who reads beyond the end.
    monkeypatch.setattr(transport._subscriptions[0]._reader, "getmany", removed)

    with capture_logs() as lines:
        found = await received(subscription, 2, settle=False)

    assert attempts(found) == [("0", 1), ("1", 1)]
    (line,) = [line for line in lines if line["event"] == "transport.position_lost"]
    assert (line["group"], line["topic"], line["offset"], line["begins_at"]) == (GROUP, place.topic, 7, 0)
    await settle(subscription, Settlement.ACK, *before)
    await subscription.close()
    assert len(await received(await join(transport), 2)) == 2


async def test_another_number_of_lanes_is_refused(transport: KafkaTransport, kafka_url: str, prefix: str) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})

    async with opened(kafka_url, prefix, lanes=8) as process:
        with pytest.raises(BrokerError, match=r"4 lanes.*lanes=8"):
            await process.provision([TOPIC], {GROUP: [TOPIC]})
        with pytest.raises(BrokerError, match=r"4 lanes.*lanes=8"):
            await process.subscribe(GROUP, [TOPIC], 10)


async def test_a_topic_of_others_may_have_another_number_of_partitions(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await make_topic(kafka_url, f"{prefix}.{TOPIC}", 6)
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    keys = [f"order-{number}" for number in range(30)]

    await asyncio.gather(*(send(transport, key, key=key) for key in keys))

    found = await received(subscription, 30)
    assert sorted(one.body.decode() for one in found) == sorted(keys)
    assert {one.lane for one in found} == set(LANES)


async def test_names_that_differ_by_a_dot_and_an_underscore_are_refused(transport: KafkaTransport, prefix: str) -> None:
    await transport.provision(["test.orders_v1"], {})

    with pytest.raises(BrokerError, match=rf"{prefix}\.test\.orders_v1 and {prefix}\.test\.orders\.v1"):
        await transport.provision(["test.orders.v1"], {})


async def test_settings_that_lose_events_are_named(transport: KafkaTransport, kafka_url: str, prefix: str) -> None:
    lossy = {
        "retention.ms": "3600000",
        "retention.bytes": "1000",
        "cleanup.policy": "compact,delete",
        "unclean.leader.election.enable": "true",
        "max.message.bytes": "1000",
    }
    await make_topic(kafka_url, f"{prefix}.{TOPIC}", 1, **lossy)
    await transport.provision([TOPIC, "test.fine"], {})

    found = {fault.where for fault in await transport.check()}

    spare = {f"{prefix}.{topic}: replication factor" for topic in (TOPIC, "test.fine")}
    assert found == spare | {f"{prefix}.{TOPIC}: {setting}" for setting in lossy}


async def test_a_user_may_look_at_the_topics_with_admin_tools(
    transport: KafkaTransport, kafka_url: str, prefix: str
) -> None:
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await join(transport)
    await send(transport, "0", "1", "2")
    (first,) = await received(subscription, 1)
    await received(subscription, 1, settle=False)
    await subscription.close()

    place = TopicPartition(f"{prefix}.{TOPIC}", first.lane)
    async with admin(kafka_url) as client:
        committed = await client.list_consumer_group_offsets(f"{prefix}.{GROUP}", partitions=[place])

    assert committed[place].offset == 1
