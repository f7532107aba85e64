"""NATS JetStream keeps every promise of the protocol on the server of the distribution and on the newest one."""

import asyncio
from datetime import timedelta
from typing import ClassVar

import pytest
from nats.aio.msg import Msg

from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.cloudevents import from_headers
from mediator.messaging.transport import Settlement, Transport
from mediator.testing import TransportSuite
from mediator.transports.nats import NatsTransport
from mediator.transports.nats.consumers import Consumers
from mediator.transports.nats.subscription import NatsSubscription
from tests.support.envelopes import TOPIC, envelope, errors_of, received
from tests.support.nats import api, cut, delete_streams, plain


class NatsSuite(TransportSuite):
    settles_singly = False  # of what a former owner of a lane settled, it knows up to where there is no gap
    which: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest) -> None:
        self.url = request.getfixturevalue(f"{self.which}_server")

    def make_transport(self, application: str) -> Transport:
        return NatsTransport(f"{self.url}?prefix={application}&lanes=4")

    async def clean_up(self, application: str) -> None:
        await delete_streams(self.url, application)

    async def break_connection(self, transport: Transport) -> None:
        assert isinstance(transport, NatsTransport)
        await cut(transport)


class TestOnTheUsualServer(NatsSuite):
    which = "usual"


class TestOnTheNewestServer(NatsSuite):
    which = "newest"


GROUP = "shop.billing"
LANES = (0, 1)
QUIET, SOON = timedelta(milliseconds=300), timedelta(seconds=20)


async def join(transport: NatsTransport, prefetch: int = 100) -> NatsSubscription:
    await transport.provision([TOPIC], {GROUP: ["test.#"]})
    subscription = await transport.subscribe(GROUP, ["test.#"], prefetch)
    assert isinstance(subscription, NatsSubscription)
    await subscription.take(LANES)
    return subscription


def numbers(deliveries: object) -> list[int]:
    return [int(delivery.body) for delivery in deliveries]  # type: ignore[attr-defined]


async def test_a_topic_may_be_provisioned_by_another_process_at_any_time(
    nats_transport: NatsTransport, nats_url: str
) -> None:
    await join(nats_transport)
    sent = envelope(topic="test.new")
    (refused,) = await errors_of(nats_transport, sent)
    other = NatsTransport(f"{nats_url}?prefix={nats_transport._address.prefix}&lanes=2")
    await other.open()
    await other.provision(["test.new"], {})
    await other.close()

    assert isinstance(refused, PublishRefusedError)
    assert await errors_of(nats_transport, sent) == [None]


async def test_what_exceeds_the_largest_payload_by_one_byte_is_refused(nats_transport: NatsTransport) -> None:
    subscription = await join(nats_transport)
    most = nats_transport._connection.client.max_payload
    (probe,) = await errors_of(nats_transport, envelope(b"x" * most))
    headers = int(str(probe).split(" bytes")[0].rpartition(" ")[2]) - most
    fits, exceeds = envelope(b"x" * (most - headers)), envelope(b"x" * (most - headers + 1))

    taken, refused = await errors_of(nats_transport, fits, exceeds)

    assert taken is None
    assert isinstance(refused, PublishRefusedError)
    assert "max_payload" in str(refused)
    assert len((await received(subscription, 1))[0].body) == most - headers
    assert (await nats_transport.health()).ok


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"max_msg_size": 2_000}, PublishRefusedError),
        ({"max_bytes": 3_000, "discard": "new"}, TransportUnavailableError),
    ],
)
async def test_nothing_overtakes_what_the_server_refuses(
    nats_transport: NatsTransport, nats_url: str, limit: dict[str, object], error: type[Exception]
) -> None:
    wanted = {**nats_transport._streams._messages(), **limit}
    await api(nats_url, f"STREAM.CREATE.{wanted['name']}", wanted)
    subscription = await join(nats_transport)
    batch = [envelope("0", key="order-1"), envelope(b"x" * 5_000, key="order-1"), envelope("2", key="order-1")]

    first, refused, behind = await errors_of(nats_transport, *batch)

    assert first is None
    assert type(refused) is error
    assert behind is refused
    assert numbers(await received(subscription, 1)) == [0]
    assert list(await subscription.fetch(1, QUIET)) == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (None, b"\xff\x00 no JSON"),
        ({"ce-id": "not ours", "Odd": "%zz", "x": "\u00e9\u6771"}, b""),
        ({"CE-Id": "1", "Content-Type": "text/plain"}, b"hello"),
    ],
)
async def test_what_somebody_else_published_arrives_as_it_is(
    nats_transport: NatsTransport, nats_url: str, headers: dict[str, str] | None, body: bytes
) -> None:
    subscription = await join(nats_transport)
    async with plain(nats_url) as client:
        subject = f"{nats_transport._address.prefix}.1.test.%zz.some%2Athing"
        await client.jetstream().publish(subject, body, headers=headers)

    (delivery,) = await received(subscription, 1)

    assert (delivery.topic, delivery.body, delivery.lane) == ("test.%zz.some*thing", body, 1)
    expected = {"CE-Id": "ce-id", "Content-Type": "content-type"}
    assert dict(delivery.headers) == {expected.get(name, name): value for name, value in (headers or {}).items()}
    assert list(await subscription.fetch(1, QUIET)) == []


@pytest.mark.parametrize("topic", ["test.a*b.>.*", "test..empty.", "test.100%.%2A", "test.~!{}[]'\"/\\|"])
async def test_any_address_is_a_topic(nats_transport: NatsTransport, topic: str) -> None:
    subscription = await join(nats_transport)
    await nats_transport.provision([topic], {})

    assert await errors_of(nats_transport, envelope(topic=topic)) == [None]

    assert (await received(subscription, 1))[0].topic == topic


async def test_any_name_of_a_header_arrives(nats_transport: NatsTransport) -> None:
    subscription = await join(nats_transport)
    sent = envelope(headers={"my header: {x}": "1", "100%": "2", "MiXed": "3"})
    await errors_of(nats_transport, sent)

    (delivery,) = await received(subscription, 1)

    assert from_headers(delivery.topic, delivery.headers, delivery.body).headers == sent.headers


async def test_a_message_that_is_lost_on_the_way_comes_again_in_order(
    nats_transport: NatsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await join(nats_transport)
    lost = 0

    async def lossy(self: NatsSubscription, message: Msg) -> None:
        nonlocal lost
        if message.data == b"3" and not lost:
            lost += 1
        else:
            await receive(self, message)

    receive = NatsSubscription._received
    monkeypatch.setattr(NatsSubscription, "_received", lossy)
    await errors_of(nats_transport, *(envelope(str(number), key="order-1") for number in range(8)))

    came = numbers(await received(subscription, 8))

    assert lost == 1
    assert list(dict.fromkeys(came + numbers(await subscription.fetch(10, QUIET)))) == list(range(8))


async def test_what_is_given_back_comes_before_what_is_behind_it(nats_transport: NatsTransport) -> None:
    subscription = await join(nats_transport)
    await errors_of(nats_transport, *(envelope(str(number), key="order-1") for number in range(6)))
    first, second, third = await received(subscription, 3, settle=False)

    await subscription.settle([(third, Settlement.GIVE_BACK), (first, Settlement.GIVE_BACK)])
    again = await received(subscription, 5)

    assert numbers(again) == [0, 2, 3, 4, 5]
    assert [delivery.attempt for delivery in again] == [2, 2, 1, 1, 1]
    await subscription.settle([(second, Settlement.ACK)])


async def test_a_crash_while_a_lane_changes_hands_loses_nothing(nats_transport: NatsTransport, nats_url: str) -> None:
    subscription = await join(nats_transport)
    await errors_of(nats_transport, *(envelope(str(number), key="order-1") for number in range(6)))
    fetched = await received(subscription, 3, settle=False)
    await subscription.settle([(fetched[0], Settlement.ACK)])
    await subscription.close()
    # The next one was made, and the former one is still there.
    consumers = subscription._consumers
    lane = fetched[0].lane
    await consumers._create(lane, fetched[0].epoch + 1, start=2, at_once=10)

    successor = await nats_transport.subscribe(GROUP, ["test.#"], 100)
    await successor.take(LANES)
    again = await received(successor, 5)

    assert numbers(again) == [1, 2, 3, 4, 5]
    assert [delivery.attempt > 1 for delivery in again[:2]] == [True, True]
    names = (await api(nats_url, f"CONSUMER.NAMES.{nats_transport._address.stream}"))["consumers"]
    assert len(names) == len(LANES), "the former ones are gone"


async def test_a_server_that_gives_numbers_again_hides_nothing(nats_transport: NatsTransport, nats_url: str) -> None:
    await nats_transport.provision([TOPIC], {GROUP: [TOPIC]})
    consumers = Consumers(nats_transport._connection, GROUP)
    for lane in LANES:
        await consumers._delete(lane, 0)
        await consumers._create(lane, 0, start=1_000, at_once=1)  # as after the loss of the last messages
    subscription = await nats_transport.subscribe(GROUP, [TOPIC], 10)
    await subscription.take(LANES)

    await errors_of(nats_transport, envelope("0"))

    assert numbers(await received(subscription, 1)) == [0]


async def test_a_member_that_was_robbed_of_its_lanes_has_them_back_when_the_other_is_gone(
    nats_transport: NatsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.transports.nats.subscription._CONTESTED_SECONDS", 0.3)
    subscription = await join(nats_transport)
    robber = await nats_transport.subscribe(GROUP, ["test.#"], 100)
    await robber.take(LANES)
    await robber.close()

    await errors_of(nats_transport, *(envelope(str(number), key="order-1") for number in range(3)))

    assert numbers(await received(subscription, 3)) == [0, 1, 2]


async def test_what_waits_to_be_fetched_is_not_redelivered_meanwhile(
    nats_transport: NatsTransport, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.transports.nats.consumers._ACK_WAIT_SECONDS", 2)
    monkeypatch.setattr("mediator.transports.nats.subscription._EXTEND_SECONDS", 0.5)
    subscription = await join(nats_transport)
    subscription._extend_at = 0
    await errors_of(nats_transport, *(envelope(str(number), key="order-1") for number in range(3)))
    fetched = await received(subscription, 1, settle=False)

    for _ in range(10):
        await subscription.extend(fetched)
        await asyncio.sleep(0.5)
    rest = await received(subscription, 2)

    assert (numbers(fetched), numbers(rest)) == ([0], [1, 2])
    assert [delivery.attempt for delivery in rest] == [1, 1]
    await subscription.settle([(fetched[0], Settlement.ACK)])
    assert list(await subscription.fetch(10, QUIET)) == []
