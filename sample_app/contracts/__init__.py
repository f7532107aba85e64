"""What the modules of the shop tell each other: the one package that they share."""

from sample_app.contracts.billing import PaymentCapturedV1, PaymentDeclinedV1
from sample_app.contracts.inventory import (
    HoldExpiredV1,
    PieceScannedV1,
    StockAskedForV1,
    StockRanShortV1,
    StockReleasedV1,
    StockReservedV1,
    StockToldV1,
)
from sample_app.contracts.ordering import OrderCancelledV1, OrderPaidV1, OrderPlacedV1, OrderPlacedV2, PriceChangedV1

__all__ = [
    "HoldExpiredV1",
    "OrderCancelledV1",
    "OrderPaidV1",
    "OrderPlacedV1",
    "OrderPlacedV2",
    "PaymentCapturedV1",
    "PaymentDeclinedV1",
    "PieceScannedV1",
    "PriceChangedV1",
    "StockAskedForV1",
    "StockRanShortV1",
    "StockReleasedV1",
    "StockReservedV1",
    "StockToldV1",
]
