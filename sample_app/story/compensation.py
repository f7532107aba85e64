"""Scenario 8: what was done is undone, step by step."""

from sample_app.billing.application.queries import GetInvoice
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.notifications.application.queries import GetMails
from sample_app.ordering.application.queries import GetOrders
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["COMPENSATION"]

ABOVE_THE_LIMIT = 120_000


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop, price=ABOVE_THE_LIMIT)
        stage.tell(f"{purchase}, which is more than the card allows.")

        order_id = await shop.mediator.send(purchase.order)
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        invoice = await shop.mediator.send(GetInvoice(order_id))
        mails = await shop.mediator.send(GetMails(order_id))
        told = [f"{purchase.customer}, your order is cancelled: card limit exceeded"]
        was_reserved = await stage.count("inventory_reservation where sku = :sku and is_released", sku=purchase.sku)
        stage.check("the payment is declined", invoice.status, "declined")
        stage.check("what was reserved is released", was_reserved, 1)
        stage.check("the stock is what it was", stock, StockView(IN_STOCK, reservations=0))
        stage.check("the order is cancelled", [order.status for order in orders], ["cancelled"])
        stage.check("the customer is told why, once", [mail.subject for mail in mails], told)


COMPENSATION = Scenario(
    "A payment is declined",
    "No transaction spans the modules; each takes back what it did when it hears of the refusal.",
    play,
)
