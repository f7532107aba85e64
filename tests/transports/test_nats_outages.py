"""What was confirmed survives a killed NATS server, in order, and everything goes on by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from itertools import groupby

import pytest
import pytest_asyncio

from mediator.errors import TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription
from mediator.transports.nats import NatsTransport, connection, publishing
from tests.support.envelopes import TOPIC, envelope, errors_of, received
from tests.support.own_nats import DISTRIBUTED, NEWEST, NatsServer

GROUP, LANES = "shop.billing", range(4)
KEYS = [f"order-{number}" for number in range(20)]
SOON = timedelta(milliseconds=200)


@pytest.fixture(params=[DISTRIBUTED, NEWEST], ids=["distributed", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    with NatsServer(request.param) as server:
        server.start()
        yield server


@pytest_asyncio.fixture
async def transports(server: NatsServer) -> AsyncIterator[list[NatsTransport]]:
    """Two processes; the group is there."""
    made = [NatsTransport(f"{server.url()}?lanes={len(LANES)}") for _ in range(2)]
    for transport in made:
        await transport.open()
    await made[0].provision([TOPIC], {GROUP: [TOPIC]})
    yield made
    for transport in made:
        await transport.close()


async def relay(transport: NatsTransport, envelopes: Sequence[Envelope]) -> int:
    """Publish until all is confirmed, as the relay does it; gives how often something was not."""
    waiting, failures = list(envelopes), 0
    while waiting:
        batch = waiting[:100]
        async with asyncio.timeout(20):
            found = await errors_of(transport, *batch)
        assert {type(error) for error in found} <= {type(None), TransportUnavailableError}
        failed = [sent for sent, error in zip(batch, found, strict=True) if error is not None]
        failures += len(failed)
        waiting = failed + waiting[100:]
        if failed:
            await asyncio.sleep(0.1)
    return failures


async def consume(subscription: Subscription, came: list[Delivery], count: int) -> None:
    """Acknowledge what comes, not quite in order, until so many different events have come."""
    while len({delivery.event_id for delivery in came}) < count:
        found = await subscription.fetch(30, SOON)
        came.extend(found)
        await asyncio.sleep(0.005)
        await subscription.settle([(delivery, Settlement.ACK) for delivery in reversed(found)])


def in_order(came: Sequence[Delivery]) -> dict[str | None, list[int]]:
    """The numbers of each key, each where it came first."""
    first: dict[str | None, Delivery] = {}
    for delivery in came:
        first.setdefault(delivery.event_id, delivery)
    by_key = sorted(first.values(), key=lambda delivery: str(delivery.key))
    return {key: [int(one.body) for one in found] for key, found in groupby(by_key, lambda one: one.key)}


async def test_killing_the_server_loses_nothing_and_keeps_the_order(
    server: NatsServer, transports: list[NatsTransport]
) -> None:
    publisher, consumer = transports
    count, came = 3_000, list[Delivery]()
    sent = [envelope(str(number), key=KEYS[number % len(KEYS)]) for number in range(count)]
    subscription = await consumer.subscribe(GROUP, [TOPIC], 100)
    await subscription.take(LANES)
    relaying = asyncio.create_task(relay(publisher, sent))
    consuming = asyncio.create_task(consume(subscription, came, count))

    for share in (0.1, 0.4, 0.7):
        while len(came) < count * share:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        server.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
    failures = await relaying
    await consuming

    assert failures, "it was to be killed in the middle of publishing"
    assert in_order(came) == {key: list(range(at, count, len(KEYS))) for at, key in enumerate(KEYS)}


async def test_what_was_confirmed_waits_on_the_disk(server: NatsServer, transports: list[NatsTransport]) -> None:
    publisher, consumer = transports
    await relay(publisher, [envelope(str(number), key="order-1") for number in range(500)])

    server.kill()
    server.start()
    await back(consumer)
    subscription = await consumer.subscribe(GROUP, [TOPIC], 1_000)
    await subscription.take(LANES)

    assert [int(delivery.body) for delivery in await received(subscription, 500)] == list(range(500))


async def test_a_server_that_hangs_hangs_nobody(
    server: NatsServer, transports: list[NatsTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_REQUEST_SECONDS", 0.5)
    publisher, consumer = transports
    subscription = await consumer.subscribe(GROUP, [TOPIC], 100)
    await subscription.take(LANES)
    sent = [envelope(str(number), key=KEYS[number % 2]) for number in range(40)]
    await relay(publisher, sent[:20])
    came = await received(subscription, 10)

    server.pause()
    unknown = await errors_of(publisher, *sent[20:])
    assert {type(error) for error in unknown} == {TransportUnavailableError}
    assert not (await publisher.health()).ok
    await subscription.take(LANES[:2])
    await subscription.take(LANES)
    server.resume()
    await relay(publisher, sent[20:])
    await consume(subscription, came, 40)

    assert in_order(came) == {"order-0": list(range(0, 40, 2)), "order-1": list(range(1, 40, 2))}


async def test_closing_does_not_wait_for_a_server_that_hangs(
    server: NatsServer, transports: list[NatsTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_REQUEST_SECONDS", 0.5)
    publisher, consumer = transports
    subscription = await consumer.subscribe(GROUP, [TOPIC], 100)
    await subscription.take(LANES)
    await relay(publisher, [envelope(str(number)) for number in range(20)])
    await received(subscription, 20)
    server.pause()
    # More than the network holds for a server that does not read.
    large = [envelope(b"x" * 250_000) for _ in range(100)]
    publication = asyncio.create_task(errors_of(publisher, *large))
    await asyncio.sleep(0.2)

    async with asyncio.timeout(10):
        await consumer.close()
        await publisher.close()
        ended = await publication

    assert {type(error) for error in ended} == {TransportUnavailableError}
    server.resume()


async def test_nothing_is_written_while_disconnected(server: NatsServer, transports: list[NatsTransport]) -> None:
    publisher, consumer = transports
    subscription = await consumer.subscribe(GROUP, [TOPIC], 100)
    await subscription.take(LANES)
    lost, sent = (envelope(body, key="order-1") for body in ("lost", "sent"))
    await relay(publisher, [envelope("0", key="order-1")])  # it knows the topic

    server.kill()
    (error,) = await errors_of(publisher, lost)
    server.start()
    await relay(publisher, [sent])

    bodies = [delivery.body for delivery in await received(subscription, 2)]
    assert isinstance(error, TransportUnavailableError)
    assert bodies == [b"0", b"sent"]


async def back(transport: NatsTransport) -> None:
    while not (await transport.health()).ok:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
