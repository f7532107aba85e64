"""What ordering promises to tell.

An order is the partition key of everything that is told about it, in all modules: what happens to one order is told
in the order in which it happened. So is a product, of its prices.
"""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from contracts import IntegrationEvent, PartitionKey, Sensitive, event_topic

__all__ = ["OrderCancelledV1", "OrderPaidV1", "OrderPlacedV1", "OrderPlacedV2", "PriceChangedV1"]


@event_topic("orders", domain="ordering", owner="team-ordering")
class OrderPlacedV1(IntegrationEvent):
    """A customer placed an order; in the days of this version every price was in euros."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str
    quantity: int
    total: Decimal


@event_topic("orders", domain="ordering", owner="team-ordering", version="v2")
class OrderPlacedV2(IntegrationEvent):
    """A customer placed an order; told beside the first version until its last reader is gone."""

    order_id: Annotated[UUID, PartitionKey()]
    sku: str
    quantity: int
    total: Decimal
    currency: str


@event_topic("orders", domain="ordering", owner="team-ordering")
class OrderPaidV1(IntegrationEvent):
    """The money for an order arrived."""

    order_id: Annotated[UUID, PartitionKey()]
    customer_name: Annotated[str, Sensitive()]
    customer_email: Annotated[str, Sensitive()]


@event_topic("orders", domain="ordering", owner="team-ordering")
class OrderCancelledV1(IntegrationEvent):
    """An order will not be delivered; `reason` is a sentence for the customer."""

    order_id: Annotated[UUID, PartitionKey()]
    customer_name: Annotated[str, Sensitive()]
    customer_email: Annotated[str, Sensitive()]
    reason: str


@event_topic("offers", domain="ordering", owner="team-ordering")
class PriceChangedV1(IntegrationEvent):
    """A piece of a product costs something else from now on."""

    sku: Annotated[str, PartitionKey()]
    price: Decimal
    currency: str
