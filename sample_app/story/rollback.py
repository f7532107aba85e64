"""Scenario 2: a unit of work that fails leaves no trace."""

from uuid import uuid4

from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.ordering.application.customers import BlockCustomer
from sample_app.ordering.application.queries import GetLoyaltyPoints, GetOrders
from sample_app.ordering.domain import CustomerBlockedError
from sample_app.story.stage import IN_STOCK, Scenario, Stage
from sample_app.wiring import make_shop

__all__ = ["ROLLBACK"]


async def play(stage: Stage) -> None:
    async with make_shop(stage.database) as shop:
        purchase = await stage.set_up(shop)
        await shop.mediator.send(BlockCustomer(purchase.customer_id))
        stage.tell(f"{purchase}, but is blocked.")
        correlation_id = f"checkout-{uuid4()}"

        refusal: CustomerBlockedError | None = None
        try:
            await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        except CustomerBlockedError as error:
            refusal = error
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        points = await shop.mediator.send(GetLoyaltyPoints(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        stage.check("the caller is told why", refusal and refusal.customer_id, purchase.customer_id)
        stage.check("no order and no points are left", (orders, points), ([], 0))
        stage.check("nothing was published", await shop.lineage(correlation_id), [])
        stage.check("so nobody touched the stock", stock, StockView(IN_STOCK, reservations=0))


ROLLBACK = Scenario(
    "A failing unit of work publishes nothing",
    "The order is recorded and converted; then the loyalty points are refused, in the same transaction.",
    play,
)
