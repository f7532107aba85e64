"""Scenario 9: two versions of a contract side by side."""

from uuid import uuid4

from mediator.operations.lineage import LineageNode
from sample_app.billing.application.queries import GetInvoice
from sample_app.contracts import OrderPlacedV1, OrderPlacedV2
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["VERSIONS"]


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop)
        stage.tell(f"{purchase}.")
        correlation_id = f"checkout-{uuid4()}"

        order_id = await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        await shop.drained()

        (root, *_) = await shop.lineage(correlation_id) or [LineageNode("command", "none", "", ())]
        readers = {event.name: [handler.name for handler in event.children] for event in root.children}
        addresses = [
            entry.address for entry in shop.registry.catalog if entry.event_class in (OrderPlacedV1, OrderPlacedV2)
        ]
        stock = await shop.mediator.send(GetStock(purchase.sku))
        invoice = await shop.mediator.send(GetInvoice(order_id))
        stage.check("each version has a topic of its own", sorted(addresses), TOPICS)
        stage.check("each version was published once, and reached its own reader", readers, READERS)
        stage.check(
            "inventory reserved by the first version", stock, StockView(IN_STOCK - purchase.quantity, reservations=1)
        )
        stage.check(
            "billing billed by the second, in its currency", (invoice.amount, invoice.currency), (purchase.total, "EUR")
        )


TOPICS = ["sample.ordering.public.orders.v1", "sample.ordering.public.orders.v2"]
READERS = {
    "ordering.order-placed.v1": ["inventory.reserve-stock"],
    "ordering.order-placed.v2": ["billing.open-invoice"],
}

VERSIONS = Scenario(
    "Two versions of a contract",
    "Billing needs the currency that OrderPlaced has in its second version; inventory still reads the first.",
    play,
)
