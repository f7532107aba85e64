"""Goods are set aside for an order, and go back on the shelf when nobody pays for them.

`ReserveStock` reads the first version of `OrderPlaced`: what the goods cost is none of its business, in any currency.
"""

from mediator import IntegrationEventHandler, RetryPolicy
from sample_app.contracts import OrderPlacedV1, PaymentDeclinedV1
from sample_app.inventory.domain import Stock, UnknownSkuError

__all__ = ["ReleaseStock", "ReserveStock"]


class ReserveStock(IntegrationEventHandler[OrderPlacedV1]):
    retry = RetryPolicy.exponential(permanent=(UnknownSkuError,))

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, event: OrderPlacedV1) -> None:
        item = await self.stock.item(event.sku)
        reservation = item.reserve(event.order_id, event.quantity)
        if reservation is not None:
            self.stock.add(reservation)


class ReleaseStock(IntegrationEventHandler[PaymentDeclinedV1]):
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, event: PaymentDeclinedV1) -> None:
        reservation = await self.stock.reservation(event.order_id)
        item = await self.stock.item(reservation.sku)
        item.release(reservation, event.reason)
