"""Scenario 4: the process dies when the order is committed and not yet published."""

import signal

from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.ordering.application.queries import GetOrders
from sample_app.story.crash import place_order_and_die
from sample_app.story.stage import IN_STOCK, Scenario, Stage
from sample_app.wiring import PREFIX

__all__ = ["CRASH_BEFORE_PUBLISH"]


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop)
    stage.tell(f"{purchase}; the process is killed right after the commit, and started again.")

    status = await place_order_and_die(stage, purchase, "uow.after_commit")

    committed = await stage.count("ordering_order where sku = :sku", sku=purchase.sku)
    waiting = await stage.count(f"{PREFIX}outbox")
    reserved = await stage.count("inventory_reservation where sku = :sku", sku=purchase.sku)
    stage.check("the process was killed", status, -signal.SIGKILL)
    stage.check("the order is committed", committed, 1)
    stage.check("its two events wait in the outbox", waiting, 2)
    stage.check("nobody has heard of it", reserved, 0)

    async with stage.shop() as shop:
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        stage.check("after the restart the event arrives", shop.counters.total("handled", "inventory.reserve-stock"), 1)
        stage.check("once", stock, StockView(IN_STOCK - purchase.quantity, reservations=1))
        stage.check("and the order is paid", [order.status for order in orders], ["paid"])


CRASH_BEFORE_PUBLISH = Scenario(
    "A crash between commit and publish",
    "What is committed is published, whatever happens to the process.",
    play,
)
