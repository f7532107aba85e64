"""What the modules of the shop tell each other: the one package that they share."""

from sample_app.contracts.billing import PaymentCapturedV1, PaymentDeclinedV1
from sample_app.contracts.inventory import StockRanShortV1, StockReleasedV1, StockReservedV1
from sample_app.contracts.ordering import OrderCancelledV1, OrderPaidV1, OrderPlacedV1, OrderPlacedV2

__all__ = [
    "OrderCancelledV1",
    "OrderPaidV1",
    "OrderPlacedV1",
    "OrderPlacedV2",
    "PaymentCapturedV1",
    "PaymentDeclinedV1",
    "StockRanShortV1",
    "StockReleasedV1",
    "StockReservedV1",
]
