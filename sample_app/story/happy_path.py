"""Scenario 1: everything goes well."""

from collections.abc import Iterator, Sequence
from uuid import uuid4

from mediator.operations.lineage import LineageNode
from sample_app.billing.application.queries import GetInvoice
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.notifications.application.queries import GetMails
from sample_app.ordering.application.queries import GetLoyaltyPoints, GetOrders
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["HAPPY_PATH"]

TOLD = [
    "ordering.order-placed.v1",
    "inventory.stock-reserved.v1",
    "billing.payment-captured.v1",
    "ordering.order-paid.v1",
    "ordering.order-placed.v2",
]


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop)
        stage.tell(f"{purchase}.")
        correlation_id = f"checkout-{uuid4()}"

        order_id = await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        points = await shop.mediator.send(GetLoyaltyPoints(purchase.customer_id))
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        invoice = await shop.mediator.send(GetInvoice(order_id))
        mails = await shop.mediator.send(GetMails(order_id))
        trees = await shop.lineage(correlation_id)
        stage.check("the loyalty points are there as soon as the order is", points, purchase.total // 100)
        stage.check("the stock is reserved", stock, StockView(IN_STOCK - purchase.quantity, reservations=1))
        stage.check("the payment is captured", (invoice.status, invoice.amount), ("paid", purchase.total))
        stage.check("the order is paid", [order.status for order in orders], ["paid"])
        stage.check("one mail is sent, to the customer", [mail.recipient for mail in mails], [purchase.email])
        stage.check("all of it under the one correlation id", list(events_of(trees)), TOLD)
        stage.check("which the mail has too", [mail.correlation_id for mail in mails], [correlation_id])
        stage.check("and all of it goes back to the command", [root.name for root in trees], ["PlaceOrder"])
        stage.draw(trees)


def events_of(nodes: Sequence[LineageNode]) -> Iterator[str]:
    """The names of the integration events in trees, from the top down."""
    for node in nodes:
        if node.kind == "event":
            yield node.name
        yield from events_of(node.children)


HAPPY_PATH = Scenario(
    "An order's way through the shop",
    "Ordering, inventory, billing and notifications do their part, each in a transaction of its own.",
    play,
)
