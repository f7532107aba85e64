"""What inventory promises to tell."""

from typing import Annotated
from uuid import UUID

from contracts import IntegrationEvent, PartitionKey, event_topic

__all__ = ["StockRanShortV1", "StockReleasedV1", "StockReservedV1"]


@event_topic("stock", domain="inventory")
class StockReservedV1(IntegrationEvent):
    """The goods for an order were set aside."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str
    quantity: int


@event_topic("stock", domain="inventory")
class StockReleasedV1(IntegrationEvent):
    """The goods for an order went back on the shelf, and why."""

    order_id: Annotated[UUID, PartitionKey()]
    reason: str


@event_topic("stock", domain="inventory")
class StockRanShortV1(IntegrationEvent):
    """There were too few goods for an order; none were set aside."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str
