"""Scenario 5: the process dies when a handler has committed and the broker does not know it yet."""

import signal

from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.ordering.application.queries import GetOrders
from sample_app.story.crash import place_order_and_die
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["CRASH_BEFORE_ACKNOWLEDGEMENT"]

HANDLER = "inventory.reserve-stock"
NEIGHBOUR = "billing.open-invoice"
"""Hears of the order as well. It rests in the process that is killed, or its commit might come first."""


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop)
    stage.tell(f"{purchase}; the process is killed as soon as the stock is reserved, and started again.")

    status = await place_order_and_die(stage, purchase, "inbox.after_commit", resting=[NEIGHBOUR])

    reserved = await stage.count("inventory_reservation where sku = :sku", sku=purchase.sku)
    unsettled = await stage.unsettled("shop.inventory", "ordering.order-placed")
    stage.check("the process was killed", status, -signal.SIGKILL)
    stage.check("the stock is reserved", reserved, 1)
    stage.check("the event that led to it is still to be acknowledged", unsettled > 0, True)  # noqa: FBT003

    async with stage.shop() as shop:
        await shop.drained()

        skipped, handled, failed = (
            shop.counters.total(outcome, HANDLER) for outcome in ("duplicate_skipped", "handled", "failed")
        )
        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        # A broker may deliver before it confirms: then the relay had no time to learn of it, and sends a second copy.
        stage.check("after the restart it is delivered again, and skipped", (skipped in (1, 2), handled), (True, 0))
        stage.check("before the handler saw it", failed, 0)
        stage.check("the stock is reserved once", stock, StockView(IN_STOCK - purchase.quantity, reservations=1))
        stage.check("and the order is paid", [order.status for order in orders], ["paid"])


CRASH_BEFORE_ACKNOWLEDGEMENT = Scenario(
    "A crash between the handler's commit and the acknowledgement",
    "The broker has to deliver again what was handled already; the inbox knows it.",
    play,
)
