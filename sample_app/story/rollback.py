"""Scenario 2: a unit of work that fails leaves no trace."""

import errno
from uuid import uuid4

from mediator import Runtime
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.ordering.application.customers import BlockCustomer
from sample_app.ordering.application.queries import GetLoyaltyPoints, GetOrders
from sample_app.ordering.domain import CustomerBlockedError
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["ROLLBACK"]


class Disk:
    """Runs full at the last moment: everything is written, the outbox rows too, and nothing is committed."""

    is_full = False

    def reached(self, place: str) -> None:
        if self.is_full and place == "uow.before_commit":
            raise OSError(errno.ENOSPC, "the disk is full")


async def play(stage: Stage) -> None:
    disk = Disk()
    async with stage.shop(runtime=Runtime(reached=disk.reached)) as shop:
        purchase = await stage.set_up(shop)
        stage.tell(f"{purchase}, and the disk is full.")
        correlation_id = f"checkout-{uuid4()}"
        failure: Exception | None = None

        disk.is_full = True
        try:
            await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        except OSError as error:
            failure = error
        disk.is_full = False
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        points = await shop.mediator.send(GetLoyaltyPoints(purchase.customer_id))
        stage.check("the caller is told", str(failure), f"[Errno {errno.ENOSPC}] the disk is full")
        stage.check("no order and no points are left", (orders, points), ([], 0))
        stage.check("nothing was published", await shop.lineage(correlation_id), [])

        stage.tell(f"{purchase.customer} tries again, and is blocked: no points, so no order either.")
        await shop.mediator.send(BlockCustomer(purchase.customer_id))
        try:
            await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        except CustomerBlockedError as error:
            failure = error
        await shop.drained()

        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        stage.check("the caller is told", str(failure), f"customer {purchase.customer_id} is blocked")
        stage.check("no order is left", orders, [])
        stage.check("nothing was published", await shop.lineage(correlation_id), [])
        stage.check("nobody touched the stock", stock, StockView(IN_STOCK, reservations=0))


ROLLBACK = Scenario(
    "A failing unit of work publishes nothing",
    "Order, loyalty points and integration events are one transaction, whoever refuses, and however late.",
    play,
)
