"""Inventory in its own words."""

from sample_app.inventory.domain.stock_item import (
    Reservation,
    ReservationReleasedError,
    Stock,
    StockItem,
    StockRanShort,
    StockReleased,
    StockReserved,
    UnknownSkuError,
)

__all__ = [
    "Reservation",
    "ReservationReleasedError",
    "Stock",
    "StockItem",
    "StockRanShort",
    "StockReleased",
    "StockReserved",
    "UnknownSkuError",
]
