"""What inventory promises to tell, and what it can be asked."""

from typing import Annotated
from uuid import UUID

from contracts import IntegrationEvent, PartitionKey, event_topic

__all__ = [
    "HoldExpiredV1",
    "PieceScannedV1",
    "StockAskedForV1",
    "StockRanShortV1",
    "StockReleasedV1",
    "StockReservedV1",
    "StockToldV1",
]


@event_topic("stock", domain="inventory", owner="team-inventory")
class StockReservedV1(IntegrationEvent):
    """The goods for an order were set aside."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str
    quantity: int


@event_topic("stock", domain="inventory", owner="team-inventory")
class StockReleasedV1(IntegrationEvent):
    """The goods for an order went back on the shelf, and why."""

    order_id: Annotated[UUID, PartitionKey()]
    reason: str


@event_topic("stock", domain="inventory", owner="team-inventory")
class StockRanShortV1(IntegrationEvent):
    """There were too few goods for an order; none were set aside."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str


@event_topic("holds", domain="inventory", owner="team-inventory")
class HoldExpiredV1(IntegrationEvent):
    """The time is up in which somebody wanted to come for goods; told then, unless somebody came."""

    hold_id: Annotated[UUID, PartitionKey()]


@event_topic("scans", domain="inventory", owner="team-inventory")
class PieceScannedV1(IntegrationEvent):
    """A piece went through the gate of the warehouse."""

    sku: Annotated[str, PartitionKey()]


@event_topic("questions", domain="inventory", owner="team-inventory")
class StockAskedForV1(IntegrationEvent):
    """Somebody wants to know how many pieces there are."""

    sku: Annotated[str, PartitionKey()]


@event_topic("answers", domain="inventory", owner="team-inventory")
class StockToldV1(IntegrationEvent):
    """So many pieces were available; sent to whoever asked."""

    sku: Annotated[str, PartitionKey()]
    available: int
