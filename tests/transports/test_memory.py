"""The in-process transport confirms an envelope when every group that listens has acknowledged it, and not before."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from mediator.errors import TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription, Transport
from mediator.testing import TransportSuite
from mediator.transports import MemoryTransport
from tests.storage.rows import eventually

NOW, SOON = timedelta(0), timedelta(seconds=20)


def envelope(body: str = "{}", topic: str = "test.shop.public.orders.v1", key: str | None = None) -> Envelope:
    return Envelope(
        event_id=uuid4(),
        topic=topic,
        type="shop.order-placed",
        version="v1",
        body=body.encode(),
        occurred_on=datetime.now(UTC),
        source="/shop/ordering",
        key=key,
    )


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[MemoryTransport]:
    transport = MemoryTransport()
    await transport.open()
    yield transport
    await transport.close()


async def outcomes(transport: MemoryTransport, *batch: Envelope) -> list[tuple[Envelope, Exception | None]]:
    return [outcome async for outcome in transport.publish(batch)]


async def join(transport: MemoryTransport, group: str, prefetch: int = 10) -> Subscription:
    return await transport.subscribe(group, ["test.shop.public.orders.v1"], prefetch)


async def acknowledge(subscription: Subscription, *deliveries: Delivery) -> None:
    await subscription.settle([(delivery, Settlement.ACK) for delivery in deliveries])


async def everybody_has_had_a_turn() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class TestMemoryTransport(TransportSuite):
    has_lanes = False
    durable_groups = False
    refuses_unknown_topics = False
    confirms_after_acknowledgement = True

    def make_transport(self, application: str) -> Transport:
        return MemoryTransport()


async def test_an_envelope_that_nobody_listens_to_is_confirmed_at_once(transport: MemoryTransport) -> None:
    await transport.subscribe("shop.billing", ["test.shop.public.invoices.v1"], 10)
    sent = envelope()

    assert await outcomes(transport, sent) == [(sent, None)]


async def test_it_confirms_only_after_every_group_has_acknowledged(transport: MemoryTransport) -> None:
    billing, stock = await join(transport, "shop.billing"), await join(transport, "shop.stock")
    sent = envelope()
    publication = asyncio.create_task(outcomes(transport, sent))
    (for_billing,), (for_stock,) = await billing.fetch(5, SOON), await stock.fetch(5, SOON)

    await acknowledge(billing, for_billing)
    await everybody_has_had_a_turn()
    assert not publication.done()
    await acknowledge(stock, for_stock)

    assert await publication == [(sent, None)]


async def test_an_acknowledgement_counts_once(transport: MemoryTransport) -> None:
    billing, _ = await join(transport, "shop.billing"), await join(transport, "shop.stock")
    publication = asyncio.create_task(outcomes(transport, envelope()))
    (delivery,) = await billing.fetch(5, SOON)

    await acknowledge(billing, delivery)
    await acknowledge(billing, delivery)
    await everybody_has_had_a_turn()

    assert not publication.done()
    await transport.close()
    await publication


async def test_outcomes_come_as_they_become_known(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    slow, quick = envelope("slow"), envelope("quick")
    publishing = transport.publish([slow, quick])
    next_outcome = asyncio.ensure_future(anext(publishing))
    for_slow, for_quick = await subscription.fetch(5, SOON)

    await acknowledge(subscription, for_quick)
    assert await next_outcome == (quick, None)
    await acknowledge(subscription, for_slow)

    assert await anext(publishing) == (slow, None)
    with pytest.raises(StopAsyncIteration):
        await anext(publishing)


async def test_what_is_given_back_comes_first_and_is_marked_as_redelivered(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    publication = asyncio.create_task(outcomes(transport, envelope("1"), envelope("2")))
    (first,) = await subscription.fetch(1, SOON)

    await subscription.settle([(first, Settlement.GIVE_BACK)])
    again, second = await subscription.fetch(5, SOON)

    assert (again.body, again.attempt) == (b"1", 2)
    assert (second.body, second.attempt) == (b"2", 1)
    await acknowledge(subscription, again, second)
    assert [error for _, error in await publication] == [None, None]


async def test_a_rejected_delivery_is_taken_care_of(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    publication = asyncio.create_task(outcomes(transport, envelope()))
    (delivery,) = await subscription.fetch(1, SOON)

    await subscription.settle([(delivery, Settlement.REJECT)])

    assert [error for _, error in await publication] == [None]


async def test_what_a_leaving_member_did_not_settle_goes_to_the_others_in_order(transport: MemoryTransport) -> None:
    leaving, staying = await join(transport, "shop.billing"), await join(transport, "shop.billing")
    publication = asyncio.create_task(outcomes(transport, *(envelope(str(number)) for number in range(3))))
    await leaving.fetch(2, SOON)

    await leaving.close()
    deliveries = await staying.fetch(10, SOON)
    await acknowledge(staying, *deliveries)

    assert [(delivery.body, delivery.attempt) for delivery in deliveries] == [(b"0", 2), (b"1", 2), (b"2", 1)]
    assert [error for _, error in await publication] == [None, None, None]


async def test_closing_ends_what_is_not_acknowledged_as_unavailable(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    publication = asyncio.create_task(outcomes(transport, envelope("done"), envelope("open")))
    done, _ = await subscription.fetch(2, SOON)
    await acknowledge(subscription, done)

    await transport.close()

    results = {sent.body: error for sent, error in await publication}
    assert results[b"done"] is None
    assert isinstance(results[b"open"], TransportUnavailableError)


async def test_a_publication_that_nobody_waits_for_any_more_is_forgotten(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    publication = asyncio.create_task(outcomes(transport, envelope()))
    await eventually(lambda: len(transport._publications) == 1)

    publication.cancel()
    await asyncio.wait([publication])

    assert not transport._publications
    await acknowledge(subscription, *await subscription.fetch(1, SOON))


async def test_the_same_envelope_may_be_under_way_twice(transport: MemoryTransport) -> None:
    subscription = await join(transport, "shop.billing")
    sent = envelope()
    publication = asyncio.create_task(outcomes(transport, sent, sent))

    deliveries = await subscription.fetch(5, SOON)
    await acknowledge(subscription, *deliveries)

    assert len(deliveries) == 2
    assert await publication == [(sent, None), (sent, None)]


@pytest.mark.parametrize(("groups", "members"), [(1, 1), (1, 2), (3, 1), (3, 2)])
async def test_each_group_gets_one_copy(transport: MemoryTransport, groups: int, members: int) -> None:
    joined = [(group, await join(transport, f"shop.group-{group}")) for group in range(groups) for _ in range(members)]
    publication = asyncio.create_task(outcomes(transport, envelope()))
    await eventually(lambda: bool(transport._publications))

    copies: list[int] = []
    for group, subscription in joined:
        fetched = await subscription.fetch(5, NOW)
        copies.extend(group for _ in fetched)
        await acknowledge(subscription, *fetched)

    assert copies == list(range(groups))
    assert [error for _, error in await publication] == [None]
