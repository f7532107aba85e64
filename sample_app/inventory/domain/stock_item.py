"""The stock item: pieces are available or set aside for an order, and never fewer than none."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent

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


@dataclass(frozen=True)
class StockReserved(DomainEvent):
    order_id: UUID
    sku: str
    quantity: int


@dataclass(frozen=True)
class StockRanShort(DomainEvent):
    order_id: UUID
    sku: str


@dataclass(frozen=True)
class StockReleased(DomainEvent):
    order_id: UUID
    reason: str


class ReservationReleasedError(Exception):
    """The pieces went back on the shelf before."""

    def __init__(self, order_id: UUID) -> None:
        self.order_id = order_id
        super().__init__(f"what was set aside for order {order_id} has been released already")


class UnknownSkuError(LookupError):
    """We never had that."""

    def __init__(self, sku: str) -> None:
        self.sku = sku
        super().__init__(f"{sku} was never in stock")


class Reservation(SQLModel, table=True):
    """Pieces of one stock item that are set aside for an order."""

    __tablename__ = "inventory_reservation"

    order_id: UUID = Field(primary_key=True)
    sku: str = Field(index=True, max_length=40)
    quantity: int
    is_released: bool = False


class StockItem(AggregateRoot, SQLModel, table=True):
    """The pieces of one kind."""

    __tablename__ = "inventory_stock_item"

    sku: str = Field(primary_key=True, max_length=40)
    available: int = 0

    def receive(self, quantity: int) -> None:
        if quantity < 1:
            raise ValueError(f"{quantity} pieces of {self.sku} cannot arrive: at least one does")
        self.available += quantity

    def reserve(self, order_id: UUID, quantity: int) -> Reservation | None:
        """Set all pieces of an order aside, or none of them when there are too few."""
        if quantity > self.available:
            self.record_event(StockRanShort(order_id, self.sku))
            return None
        self.available -= quantity
        self.record_event(StockReserved(order_id, self.sku, quantity))
        return Reservation(order_id=order_id, sku=self.sku, quantity=quantity)

    def release(self, reservation: Reservation, reason: str) -> None:
        if reservation.is_released:
            raise ReservationReleasedError(reservation.order_id)
        reservation.is_released = True
        self.available += reservation.quantity
        self.record_event(StockReleased(reservation.order_id, reason))


class Stock(ABC):
    """All stock items, and what is set aside; handed out to be changed, to one after the other."""

    @abstractmethod
    def add(self, kept: StockItem | Reservation) -> None: ...

    @abstractmethod
    async def item(self, sku: str) -> StockItem:
        """The stock item; raises UnknownSkuError."""

    @abstractmethod
    async def reservation(self, order_id: UUID) -> Reservation:
        """What is set aside for an order; raises LookupError."""
