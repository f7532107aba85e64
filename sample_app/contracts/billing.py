"""What billing promises to tell."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from contracts import IntegrationEvent, PartitionKey, event_topic

__all__ = ["PaymentCapturedV1", "PaymentDeclinedV1"]


@event_topic("payments", domain="billing", owner="team-billing")
class PaymentCapturedV1(IntegrationEvent):
    """The money for an order was taken."""

    order_id: Annotated[UUID, PartitionKey()]
    amount: Decimal
    currency: str


@event_topic("payments", domain="billing", owner="team-billing")
class PaymentDeclinedV1(IntegrationEvent):
    """The money for an order was refused; `reason` is the payment provider's."""

    order_id: Annotated[UUID, PartitionKey()]
    reason: str
