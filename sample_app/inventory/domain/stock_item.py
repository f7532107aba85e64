"""The stock item: pieces are available or set aside for an order, and never fewer than none."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent
from sample_app.inventory.domain.hold import Hold

__all__ = [
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


class StockTooLowError(Exception):
    """There are fewer pieces than are wanted."""

    def __init__(self, sku: str, quantity: int, available: int) -> None:
        self.sku, self.quantity, self.available = sku, quantity, available
        super().__init__(f"{quantity} pieces of {sku} are wanted, {available} are there")


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


class PriceLabel(SQLModel, table=True):
    """What was printed for the shelf; each covers the one before."""

    __tablename__ = "inventory_price_label"

    id: int | None = Field(default=None, primary_key=True)
    sku: str = Field(index=True, max_length=40)
    text: str = Field(max_length=40)


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

    def hold(self, hold_id: UUID, quantity: int, expiry_id: UUID) -> Hold:
        if quantity > self.available:
            raise StockTooLowError(self.sku, quantity, self.available)
        self.available -= quantity
        return Hold(id=hold_id, sku=self.sku, quantity=quantity, expiry_id=expiry_id)

    def label(self, text: str) -> PriceLabel:
        return PriceLabel(sku=self.sku, text=text)


class Stock(ABC):
    """All stock items, and what is set aside or held; handed out to be changed, to one after the other."""

    @abstractmethod
    def add(self, kept: StockItem | Reservation | Hold | PriceLabel) -> None: ...

    @abstractmethod
    async def item(self, sku: str) -> StockItem:
        """The stock item; raises UnknownSkuError."""

    @abstractmethod
    async def reservation(self, order_id: UUID) -> Reservation:
        """What is set aside for an order; raises LookupError."""

    @abstractmethod
    async def take_hold(self, hold_id: UUID) -> Hold:
        """What is held, which is then held no more; raises LookupError."""
