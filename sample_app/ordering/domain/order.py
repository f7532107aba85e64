"""The order: placed → reserved → paid, each once and in this order, or cancelled before it is paid."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent
from sample_app.ordering.domain.offer import Offer

__all__ = ["Order", "OrderCancelled", "OrderPaid", "OrderPlaced", "OrderStateError", "OrderStatus", "Orders"]


class OrderStatus(StrEnum):
    PLACED = "placed"
    RESERVED = "reserved"
    PAID = "paid"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class OrderPlaced(DomainEvent):
    order_id: UUID
    customer_id: UUID
    sku: str
    quantity: int
    total: int
    currency: str


@dataclass(frozen=True)
class OrderPaid(DomainEvent):
    order_id: UUID
    customer_id: UUID


@dataclass(frozen=True)
class OrderCancelled(DomainEvent):
    order_id: UUID
    customer_id: UUID
    reason: str


class OrderStateError(Exception):
    """A step was asked for that the order's state does not allow."""

    def __init__(self, order_id: UUID, status: OrderStatus, step: str) -> None:
        self.order_id, self.status, self.step = order_id, status, step
        super().__init__(f"order {order_id} is {status}: it cannot be {step}")


class Order(AggregateRoot, SQLModel, table=True):
    """Some goods for a customer, at the price of the moment in which they were ordered."""

    __tablename__ = "ordering_order"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    customer_id: UUID = Field(index=True)
    sku: str = Field(max_length=40)
    quantity: int
    total: int
    """In the currency's smallest unit."""
    currency: str = Field(max_length=3)
    status: OrderStatus = OrderStatus.PLACED

    @property
    def is_cancelled(self) -> bool:
        return self.status is OrderStatus.CANCELLED

    @classmethod
    def place(cls, customer_id: UUID, offer: Offer, quantity: int) -> "Order":
        order = cls(
            customer_id=customer_id,
            sku=offer.sku,
            quantity=quantity,
            total=offer.price_of(quantity),
            currency=offer.currency,
        )
        order.record_event(OrderPlaced(order.id, customer_id, order.sku, quantity, order.total, order.currency))
        return order

    def mark_reserved(self) -> None:
        self._step_from(OrderStatus.PLACED, to=OrderStatus.RESERVED)

    def mark_paid(self) -> None:
        self._step_from(OrderStatus.RESERVED, to=OrderStatus.PAID)
        self.record_event(OrderPaid(self.id, self.customer_id))

    def cancel(self, reason: str) -> None:
        self._step_from(OrderStatus.PLACED, OrderStatus.RESERVED, to=OrderStatus.CANCELLED)
        self.record_event(OrderCancelled(self.id, self.customer_id, reason))

    def _step_from(self, *allowed: OrderStatus, to: OrderStatus) -> None:
        if self.status not in allowed:
            raise OrderStateError(self.id, self.status, to)
        self.status = to


class Orders(ABC):
    """All orders."""

    @abstractmethod
    def add(self, order: Order) -> None: ...

    @abstractmethod
    async def get(self, order_id: UUID) -> Order:
        """The order, for whoever wants to change it: one after the other. Raises LookupError."""
