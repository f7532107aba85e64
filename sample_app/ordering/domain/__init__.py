"""Ordering in its own words."""

from sample_app.ordering.domain.customer import Customer, CustomerBlockedError, Customers, LoyaltyPointsEarned
from sample_app.ordering.domain.offer import Offer, Offers, PriceChanged, Promotion
from sample_app.ordering.domain.order import (
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    Orders,
    OrderStateError,
    OrderStatus,
)

__all__ = [
    "Customer",
    "CustomerBlockedError",
    "Customers",
    "LoyaltyPointsEarned",
    "Offer",
    "Offers",
    "Order",
    "OrderCancelled",
    "OrderPaid",
    "OrderPlaced",
    "OrderStateError",
    "OrderStatus",
    "Orders",
    "PriceChanged",
    "Promotion",
]
