"""Scenario 6: a handler fails twice; its neighbour does not notice."""

import asyncio
from contextlib import suppress

from sample_app.billing.application.payment_gateway import Charge, GatewayUnavailableError
from sample_app.billing.infrastructure import SandboxGateway
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.ordering.application.queries import GetOrders
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["RETRIES"]

OUTAGES = 2
PATIENCE_SECONDS = 10


class UnreliableGateway(SandboxGateway):
    """Does not answer the first two times; before the second, sees how many orders are marked as reserved."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.sku = ""
        self.outages = self.reserved = 0
        self._stage = stage

    async def charge(self, amount: int, currency: str, *, idempotency_key: str) -> Charge:
        """Fail, or answer as the sandbox does."""
        if self.outages == OUTAGES:
            return await super().charge(amount, currency, idempotency_key=idempotency_key)
        self.outages += 1
        if self.outages == OUTAGES:
            await self._see_neighbour()
        raise GatewayUnavailableError("the payment provider does not answer")

    async def _see_neighbour(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self.reserved:
                    of_mine = "ordering_order where sku = :sku and status = 'RESERVED'"
                    self.reserved = await self._stage.count(of_mine, sku=self.sku)


async def play(stage: Stage) -> None:
    gateway = UnreliableGateway(stage)
    async with stage.shop(gateway=gateway) as shop:
        purchase = await stage.set_up(shop)
        gateway.sku = purchase.sku
        stage.tell(f"{purchase}; the payment provider does not answer twice.")

        await shop.mediator.send(purchase.order)
        await shop.drained()

        tries = [gateway.outages, shop.counters.total("handled", "billing.capture-payment")]
        neighbour = [shop.counters.total(outcome, "ordering.mark-order-reserved") for outcome in ("failed", "handled")]
        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        stock = await shop.mediator.send(GetStock(purchase.sku))
        stage.check("billing failed twice and succeeded the third time", tries, [OUTAGES, 1])
        stage.check("ordering handled the same event meanwhile", gateway.reserved, 1)
        stage.check("once, and without a failure", neighbour, [0, 1])
        stage.check("the customer is charged once", len(gateway.charges), 1)
        stage.check("the order is paid", [order.status for order in orders], ["paid"])
        stage.check("nothing was repeated", stock, StockView(IN_STOCK - purchase.quantity, reservations=1))


RETRIES = Scenario(
    "A handler fails twice and succeeds the third time",
    "Billing and ordering both handle StockReserved; each has its own transaction and its own retries.",
    play,
)
