"""What happens elsewhere moves an order on.

Two modules' events have no order among them, and two handlers work at the same time. Who is early fails, and is right
when it is tried again; who is late finds that there is nothing left to do.
"""

from mediator import IntegrationEventHandler
from sample_app.contracts import PaymentCapturedV1, StockRanShortV1, StockReleasedV1, StockReservedV1
from sample_app.ordering.domain import Orders

__all__ = ["CancelOrder", "MarkOrderPaid", "MarkOrderReserved"]


class MarkOrderReserved(IntegrationEventHandler[StockReservedV1]):
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    async def handle(self, event: StockReservedV1) -> None:
        order = await self.orders.get(event.order_id)
        if not order.is_cancelled:
            order.mark_reserved()


class MarkOrderPaid(IntegrationEventHandler[PaymentCapturedV1]):
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    async def handle(self, event: PaymentCapturedV1) -> None:
        order = await self.orders.get(event.order_id)
        order.mark_paid()


class CancelOrder(IntegrationEventHandler[StockReleasedV1 | StockRanShortV1]):
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    async def handle(self, event: StockReleasedV1 | StockRanShortV1) -> None:
        order = await self.orders.get(event.order_id)
        order.cancel(event.reason if isinstance(event, StockReleasedV1) else "sold out")
