"""The shelves show what a piece costs."""

from mediator import IntegrationEventHandler, RetryPolicy
from sample_app.contracts import PriceChangedV1
from sample_app.inventory.domain import Stock, UnknownSkuError

__all__ = ["PrintLabel"]


class PrintLabel(IntegrationEventHandler[PriceChangedV1]):
    """Each label covers the one before: a former price that is printed late would cover the one that holds."""

    ordering = "key"
    retry = RetryPolicy.exponential(permanent=(UnknownSkuError,))

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, event: PriceChangedV1) -> None:
        item = await self.stock.item(event.sku)
        self.stock.add(item.label(f"{event.price} {event.currency}"))
