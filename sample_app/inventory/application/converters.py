"""What of inventory other modules may know, in the words of the contracts."""

from mediator import IntegrationEventConverter
from sample_app.contracts import StockRanShortV1, StockReleasedV1, StockReservedV1
from sample_app.inventory.domain import StockRanShort, StockReleased, StockReserved

__all__ = ["StockRanShortConverter", "StockReleasedConverter", "StockReservedConverter"]


class StockReservedConverter(IntegrationEventConverter[StockReserved, StockReservedV1]):
    def convert(self, event: StockReserved) -> StockReservedV1:
        return StockReservedV1(order_id=event.order_id, sku=event.sku, quantity=event.quantity)


class StockReleasedConverter(IntegrationEventConverter[StockReleased, StockReleasedV1]):
    def convert(self, event: StockReleased) -> StockReleasedV1:
        return StockReleasedV1(order_id=event.order_id, reason=event.reason)


class StockRanShortConverter(IntegrationEventConverter[StockRanShort, StockRanShortV1]):
    def convert(self, event: StockRanShort) -> StockRanShortV1:
        return StockRanShortV1(order_id=event.order_id, sku=event.sku)
