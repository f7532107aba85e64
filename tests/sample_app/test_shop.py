"""What the shop does and the story does not tell."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from mediator.domain import DomainEvent
from sample_app.billing.application.queries import GetInvoice
from sample_app.inventory.application.holds import CollectGoods, HoldGoods
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.inventory.application.receive_goods import ReceiveGoods
from sample_app.inventory.domain import HoldExpiredError
from sample_app.notifications.application.queries import GetMails
from sample_app.ordering.application.customers import RegisterCustomer
from sample_app.ordering.application.offers import OfferProduct
from sample_app.ordering.application.place_order import PlaceOrder
from sample_app.ordering.application.queries import GetOrders
from sample_app.ordering.domain import LoyaltyPointsEarned
from sample_app.wiring import create_tables, make_shop


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.01)


@pytest.mark.every_database
async def test_order_for_more_than_there_is_is_cancelled(database_url: str) -> None:
    async with make_shop(database_url) as shop:
        await create_tables(shop)
        customer_id = await shop.mediator.send(RegisterCustomer("Ada", "ada@example.org"))
        await shop.mediator.send(OfferProduct("lamp", 1_250, "EUR"))
        await shop.mediator.send(ReceiveGoods("lamp", 2))

        order_id = await shop.mediator.send(PlaceOrder(customer_id, "lamp", 3))
        await shop.drained()

        assert [order.status for order in await shop.mediator.send(GetOrders(customer_id))] == ["cancelled"]
        assert await shop.mediator.send(GetStock("lamp")) == StockView(available=2, reservations=0)
        assert (await shop.mediator.send(GetInvoice(order_id))).status == "void"
        assert [mail.subject for mail in await shop.mediator.send(GetMails(order_id))] == [
            "Ada, your order is cancelled: sold out"
        ]
        assert not await shop.dead_letters.list()


@pytest.mark.every_database
async def test_stock_is_shared_out_among_orders_that_come_at_once(database_url: str) -> None:
    async with make_shop(database_url) as shop:
        await create_tables(shop)
        customer_id = await shop.mediator.send(RegisterCustomer("Ada", "ada@example.org"))
        await shop.mediator.send(OfferProduct("lamp", 1_250, "EUR"))
        await shop.mediator.send(ReceiveGoods("lamp", 7))

        shop.pause("inventory.reserve-stock")
        for _ in range(5):
            await shop.mediator.send(PlaceOrder(customer_id, "lamp", 2))
        await shop.drained()
        shop.resume("inventory.reserve-stock")
        await shop.drained()

        statuses = sorted(order.status for order in await shop.mediator.send(GetOrders(customer_id)))
        assert statuses == ["cancelled", "cancelled", "paid", "paid", "paid"]
        assert await shop.mediator.send(GetStock("lamp")) == StockView(available=1, reservations=3)


@pytest.mark.every_database
async def test_payment_that_is_told_of_before_the_reservation_waits_for_it(database_url: str) -> None:
    async with make_shop(database_url) as shop:
        await create_tables(shop)
        customer_id = await shop.mediator.send(RegisterCustomer("Ada", "ada@example.org"))
        await shop.mediator.send(OfferProduct("lamp", 1_250, "EUR"))
        await shop.mediator.send(ReceiveGoods("lamp", 2))
        shop.pause("ordering.mark-order-reserved")

        await shop.mediator.send(PlaceOrder(customer_id, "lamp", 1))
        await until(lambda: shop.counters.total("failed", "ordering.mark-order-paid") > 0)
        shop.resume("ordering.mark-order-reserved")
        await shop.drained()

        assert [order.status for order in await shop.mediator.send(GetOrders(customer_id))] == ["paid"]
        assert not await shop.dead_letters.list()


@pytest.mark.every_database
async def test_reservation_that_is_told_of_after_the_cancellation_changes_nothing(database_url: str) -> None:
    async with make_shop(database_url) as shop:
        await create_tables(shop)
        customer_id = await shop.mediator.send(RegisterCustomer("Ada", "ada@example.org"))
        await shop.mediator.send(OfferProduct("lamp", 120_000, "EUR"))
        await shop.mediator.send(ReceiveGoods("lamp", 2))
        shop.pause("ordering.mark-order-reserved")

        await shop.mediator.send(PlaceOrder(customer_id, "lamp", 1))
        await shop.drained()
        shop.resume("ordering.mark-order-reserved")
        await shop.drained()

        assert shop.counters.total("handled", "ordering.mark-order-reserved") == 1
        assert [order.status for order in await shop.mediator.send(GetOrders(customer_id))] == ["cancelled"]
        assert not await shop.dead_letters.list()


@pytest.mark.every_database
async def test_goods_whose_hold_has_just_expired_are_not_handed_out(database_url: str) -> None:
    async with make_shop(database_url) as shop:
        await create_tables(shop)
        await shop.mediator.send(ReceiveGoods("lamp", 2))
        shop.pause("inventory.end-hold")

        hold_id = await shop.mediator.send(HoldGoods("lamp", 2, keep_for=timedelta(0)))
        await shop.drained()
        with pytest.raises(HoldExpiredError, match=f"hold {hold_id} has expired"):
            await shop.mediator.send(CollectGoods(hold_id))
        shop.resume("inventory.end-hold")
        await shop.drained()

        assert await shop.mediator.send(GetStock("lamp")) == StockView(available=2, reservations=0)


def test_loyalty_points_never_leave_their_module(database_url: str) -> None:
    registry = make_shop(database_url).registry
    converted: set[type[DomainEvent]] = {entry.domain_event for entry in registry.converters}

    assert [event for _, event in registry.domain_events if event not in converted] == [LoyaltyPointsEarned]
