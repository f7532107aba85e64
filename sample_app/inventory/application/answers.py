"""Other modules may ask how much there is. What the handler returns goes to where the question says."""

from mediator import IntegrationEventHandler
from sample_app.contracts import StockAskedForV1, StockToldV1
from sample_app.inventory.domain import Stock

__all__ = ["TellStock"]


class TellStock(IntegrationEventHandler[StockAskedForV1]):
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, event: StockAskedForV1) -> StockToldV1:
        item = await self.stock.item(event.sku)
        return StockToldV1(sku=item.sku, available=item.available)
