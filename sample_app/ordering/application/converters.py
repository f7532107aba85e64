"""What of ordering other modules may know, in the words of the contracts.

`OrderPlaced` is told in two versions, by a converter each. `LoyaltyPointsEarned` has no converter: it never leaves the
module.
"""

from decimal import Decimal

from mediator import IntegrationEventConverter
from sample_app.contracts import OrderCancelledV1, OrderPaidV1, OrderPlacedV1, OrderPlacedV2, PriceChangedV1
from sample_app.ordering.domain import Customers, OrderCancelled, OrderPaid, OrderPlaced, PriceChanged

__all__ = [
    "OrderCancelledConverter",
    "OrderPaidConverter",
    "OrderPlacedConverter",
    "OrderPlacedV2Converter",
    "PriceChangedConverter",
]


class OrderPlacedConverter(IntegrationEventConverter[OrderPlaced, OrderPlacedV1]):
    def convert(self, event: OrderPlaced) -> OrderPlacedV1:
        return OrderPlacedV1(
            order_id=event.order_id, sku=event.sku, quantity=event.quantity, total=Decimal(event.total).scaleb(-2)
        )


class OrderPlacedV2Converter(IntegrationEventConverter[OrderPlaced, OrderPlacedV2]):
    def convert(self, event: OrderPlaced) -> OrderPlacedV2:
        return OrderPlacedV2(
            order_id=event.order_id,
            sku=event.sku,
            quantity=event.quantity,
            total=Decimal(event.total).scaleb(-2),
            currency=event.currency,
        )


class OrderPaidConverter(IntegrationEventConverter[OrderPaid, OrderPaidV1]):
    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def convert(self, event: OrderPaid) -> OrderPaidV1:
        customer = await self.customers.look_up(event.customer_id)
        return OrderPaidV1(order_id=event.order_id, customer_name=customer.name, customer_email=customer.email)


class OrderCancelledConverter(IntegrationEventConverter[OrderCancelled, OrderCancelledV1]):
    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def convert(self, event: OrderCancelled) -> OrderCancelledV1:
        customer = await self.customers.look_up(event.customer_id)
        return OrderCancelledV1(
            order_id=event.order_id,
            customer_name=customer.name,
            customer_email=customer.email,
            reason=event.reason,
        )


class PriceChangedConverter(IntegrationEventConverter[PriceChanged, PriceChangedV1]):
    def convert(self, event: PriceChanged) -> PriceChangedV1:
        return PriceChangedV1(sku=event.sku, price=Decimal(event.price).scaleb(-2), currency=event.currency)
