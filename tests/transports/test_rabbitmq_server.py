"""A RabbitMQ of the test's own: it is killed and started again, and has settings that nobody shares."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.rabbitmq import RabbitMQTransport
from tests.support.envelopes import GROUP, TOPIC, envelope, outcomes
from tests.support.rabbitmq import RabbitMQServer

A_MOMENT = timedelta(milliseconds=300)
PATIENCE = 80


@pytest.fixture
def server() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        yield server


async def provisioned(server: RabbitMQServer, lanes: int = 4) -> RabbitMQTransport:
    transport = RabbitMQTransport(f"{server.url()}?lanes={lanes}")
    await transport.open()
    await transport.provision([TOPIC], {GROUP: [TOPIC]})
    return transport


@pytest.mark.timeout(180)
async def test_a_broker_that_is_killed_loses_nothing_that_it_confirmed(server: RabbitMQServer) -> None:
    server.start()
    transport = await provisioned(server)
    # RabbitMQ 3.10 notes on disk which quorum queues it has three seconds after it has made one.
    await asyncio.sleep(5)
    subscription = await transport.subscribe(GROUP, [TOPIC], 100)
    await subscription.take(range(4))
    batch = [envelope(str(number), key=f"order-{number % 20}") for number in range(3000)]
    sure: set[str] = set()
    first: dict[str | None, Delivery] = {}

    async def publish() -> None:
        """As the relay does it: what is not confirmed is published again, first of its key."""
        waiting = list(batch)
        while waiting:
            async with asyncio.timeout(15):
                results = await outcomes(transport, *waiting[:200])
            confirmed = {id(sent) for sent, error in results if error is None}
            assert {type(error) for _, error in results} <= {type(None), TransportUnavailableError}
            sure.update(str(sent.event_id) for sent in waiting if id(sent) in confirmed)
            waiting = [sent for sent in waiting if id(sent) not in confirmed]
            await asyncio.sleep(0.05)

    async def consume() -> None:
        while len(first) < len(batch):
            came = await subscription.fetch(50, A_MOMENT)
            for delivery in came:
                first.setdefault(delivery.event_id, delivery)
            await subscription.settle([(delivery, Settlement.ACK) for delivery in came])

    async def kill() -> None:
        while len(first) < 300:  # noqa: ASYNC110 - in the middle of it
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    consuming = asyncio.create_task(consume())
    async with asyncio.timeout(120):
        await asyncio.gather(publish(), kill())
    await asyncio.wait([consuming], timeout=30)
    consuming.cancel()

    assert len(sure) == len(batch)
    assert set(first) == sure
    for key in range(20):
        numbers = [int(delivery.body) for delivery in first.values() if delivery.key == f"order-{key}"]
        assert numbers == list(range(key, 3000, 20))
    assert transport._publishing.epoch >= 2, "it was killed in the middle"
    await transport.close()


@pytest.mark.timeout(180)
async def test_what_the_broker_finds_too_large_is_refused_and_the_rest_goes_on(server: RabbitMQServer) -> None:
    server.start(max_message_size=100_000)
    transport = await provisioned(server)
    large, small = envelope(bytes(100_001)), envelope(bytes(100_000))

    ((_, refused),) = await outcomes(transport, large)
    ((_, error),) = await outcomes(transport, small)
    again = {id(sent): why for sent, why in await outcomes(transport, small, large)}

    assert isinstance(refused, PublishRefusedError)
    assert "its body has 100001 bytes, and the broker takes 100000" in str(refused)
    assert error is None
    assert isinstance(again[id(large)], PublishRefusedError), "known by now, so that it ends nobody's channel"
    assert again[id(small)] is None
    await transport.close()


@pytest.mark.timeout(180)
async def test_a_broker_that_is_short_of_memory_gets_nothing_to_keep(server: RabbitMQServer) -> None:
    server.start()
    transport = await provisioned(server)
    waiting = envelope("waiting")
    assert [error for _, error in await outcomes(transport, waiting)] == [None]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start, **{"vm_memory_high_watermark.absolute": "1MB"})
    async with asyncio.timeout(PATIENCE):
        await transport._publishing.until_up()
    transport._publisher.deadline = 1.0

    errors = [error for _ in range(2) for _, error in await outcomes(transport, envelope("not now"))]

    assert {type(error) for error in errors} == {TransportUnavailableError}
    assert "short of memory" in str(errors[-1])
    assert (await transport.health()).ok is False
    await transport.close()
