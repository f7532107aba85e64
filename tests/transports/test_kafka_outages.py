"""Brokers of Kafka that are killed, hang, are cut off, or are none."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from mediator.errors import BrokerError, PublishRefusedError, TransportUnavailableError
from mediator.messaging.transport import Settlement
from mediator.transports.kafka import KafkaTransport, cluster
from tests.storage.rows import eventually
from tests.support.envelopes import TOPIC, envelope, errors_of, received
from tests.support.own_kafka import KafkaServer
from tests.support.proxy import Proxy
from tests.support.strangers import web_server

GROUP = "shop.billing"
LANES = range(4)


@pytest.fixture
def server() -> Iterator[KafkaServer]:
    """Not started yet."""
    with KafkaServer() as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[KafkaTransport]:
    transport = KafkaTransport(f"{url}?lanes={len(LANES)}")
    await transport.open()
    try:
        yield transport
    finally:
        async with asyncio.timeout(20):
            await transport.close()


async def is_confirmed(transport: KafkaTransport) -> bool:
    (error,) = await errors_of(transport, envelope("again", key="again"))
    assert error is None or isinstance(error, TransportUnavailableError)
    return error is None


async def test_a_broker_that_comes_back_empty_is_provisioned_again(server: KafkaServer) -> None:
    server.start()
    async with opened(server.url()) as transport:
        await transport.provision([TOPIC], {GROUP: [TOPIC]})
        subscription = await transport.subscribe(GROUP, [TOPIC], 100)
        await subscription.take(LANES)
        assert await errors_of(transport, *(envelope(key="order-1") for _ in range(3))) == [None] * 3
        await received(subscription, 3)

        with capture_logs() as lines:
            server.kill()
            (down,) = await errors_of(transport, envelope())
            health = await transport.health()
            assert not await subscription.fetch(10, timedelta(seconds=1))
            server.start()
            (missing,) = await errors_of(transport, envelope())
            with pytest.raises(BrokerError, match=f"topic {TOPIC}.*group {GROUP} to {TOPIC}"):
                await transport.provision([TOPIC], {GROUP: [TOPIC]}, create=False)
            await eventually(lambda: not transport._subscriptions[0]._held)
            async with opened(server.url()) as process:
                await process.provision([TOPIC], {GROUP: [TOPIC]})
            again = await errors_of(transport, envelope("again", key="order-1"))
            found = await received(subscription, 1)

    assert isinstance(down, TransportUnavailableError)
    assert not health.ok
    assert health.detail
    assert isinstance(missing, PublishRefusedError)
    assert again == [None]
    assert [(delivery.body, delivery.attempt) for delivery in found] == [(b"again", 1)]
    said = [line["event"] for line in lines if line["event"].startswith("transport.")]
    assert said[:2] == ["transport.connection_lost", "transport.connected_again"]


async def test_closing_has_an_end_when_the_broker_is_gone(server: KafkaServer) -> None:
    server.start()
    async with opened(server.url()) as transport:
        await transport.provision([TOPIC], {GROUP: [TOPIC]})
        subscription = await transport.subscribe(GROUP, [TOPIC], 100)
        await subscription.take(LANES)
        assert await errors_of(transport, envelope()) == [None]
        await received(subscription, 1)
        server.kill()


async def test_a_broker_that_hangs_ends_in_unknown_outcomes(
    server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 1)
    server.start()
    async with opened(server.url()) as transport:
        await transport.provision([TOPIC], {GROUP: [TOPIC]})
        subscription = await transport.subscribe(GROUP, [TOPIC], 100)
        await subscription.take(LANES)
        assert await is_confirmed(transport)
        await received(subscription, 1, settle=False)

        server.pause()
        try:
            async with asyncio.timeout(20):
                results = await errors_of(transport, *(envelope(key=f"order-{number}") for number in range(20)))
                health = await transport.health()
                found = await subscription.fetch(10, timedelta(seconds=1))
        finally:
            server.resume()
        await eventually(lambda: is_confirmed(transport))

    assert {type(result) for result in results} == {TransportUnavailableError}
    assert not health.ok
    assert not found


async def test_closing_has_an_end_when_the_broker_hangs(server: KafkaServer) -> None:
    server.start()
    try:
        async with opened(server.url()) as transport:
            await transport.provision([TOPIC], {GROUP: [TOPIC]})
            subscription = await transport.subscribe(GROUP, [TOPIC], 100)
            await subscription.take(LANES)
            publication = asyncio.create_task(errors_of(transport, envelope(key="order-1")))
            assert await publication == [None]
            await received(subscription, 1)
            server.pause()
            hanging = await _publication_without_an_answer(transport)
    finally:
        server.resume()

    (error,) = await hanging
    assert isinstance(error, TransportUnavailableError)


async def test_cuts_lose_nothing_that_was_confirmed_and_keep_the_order(server: KafkaServer) -> None:
    async with Proxy(server.url()) as proxy:
        server.advertised = int(proxy.url.rpartition(":")[2])
        server.start()
        async with opened(proxy.url) as transport:
            await transport.provision([TOPIC], {GROUP: [TOPIC]})
            subscription = await transport.subscribe(GROUP, [TOPIC], 100)
            await subscription.take(LANES)
            sure: list[int] = []
            cutting = asyncio.create_task(_cut_often(proxy))
            came: list[int] = []
            for number in range(60):
                sent = envelope(str(number), key="order-1")
                # As the relay does it: nothing of a key goes before what came before it was confirmed.
                while (await errors_of(transport, sent))[0] is not None:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                sure.append(number)
                found = await subscription.fetch(10, timedelta(milliseconds=10))
                came += [int(delivery.body) for delivery in found]
                await subscription.settle([(delivery, Settlement.ACK) for delivery in found])
            cutting.cancel()
            await asyncio.wait({cutting})
            while len(set(came)) < len(sure):
                came += [int(delivery.body) for delivery in await received(subscription, 1)]

    assert proxy.accepted > 5
    assert list(Counter(came)) == sure


async def _publication_without_an_answer(transport: KafkaTransport) -> asyncio.Task[list[Exception | None]]:
    while True:
        publication = asyncio.create_task(errors_of(transport, envelope(key="order-1")))
        # A process that is stopped may say something for a moment.
        if not (await asyncio.wait({publication}, timeout=0.5))[0]:
            return publication


async def _cut_often(proxy: Proxy) -> None:
    while True:
        await asyncio.sleep(0.15)
        proxy.cut()


async def test_a_stall_ends_in_unknown_outcomes_and_passes(
    monkeypatch: pytest.MonkeyPatch, server: KafkaServer
) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 1)
    async with Proxy(server.url()) as proxy:
        server.advertised = int(proxy.url.rpartition(":")[2])
        server.start()
        async with opened(proxy.url) as transport:
            await transport.provision([TOPIC], {})
            assert await is_confirmed(transport)
            proxy.hold()
            (error,) = await errors_of(transport, envelope())
            proxy.release()

            await eventually(lambda: is_confirmed(transport))

    assert isinstance(error, TransportUnavailableError)


async def test_what_is_no_kafka_is_told() -> None:
    async with web_server() as port:
        transport = KafkaTransport(f"kafka://shop:secret@127.0.0.1:{port}")
        with pytest.raises(BrokerError, match=f"127.0.0.1:{port}") as refused:
            await transport.open()

    assert "secret" not in str(refused.value)
