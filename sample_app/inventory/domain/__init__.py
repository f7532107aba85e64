"""Inventory in its own words."""

from sample_app.inventory.domain.hold import Hold, HoldExpiredError
from sample_app.inventory.domain.stock_item import (
    PriceLabel,
    Reservation,
    ReservationReleasedError,
    Stock,
    StockItem,
    StockRanShort,
    StockReleased,
    StockReserved,
    StockTooLowError,
    UnknownSkuError,
)

__all__ = [
    "Hold",
    "HoldExpiredError",
    "PriceLabel",
    "Reservation",
    "ReservationReleasedError",
    "Stock",
    "StockItem",
    "StockRanShort",
    "StockReleased",
    "StockReserved",
    "StockTooLowError",
    "UnknownSkuError",
]
