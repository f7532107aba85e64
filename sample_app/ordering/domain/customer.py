"""The customer: collects loyalty points, unless blocked."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent

__all__ = ["Customer", "CustomerBlockedError", "Customers", "LoyaltyPointsEarned"]


@dataclass(frozen=True)
class LoyaltyPointsEarned(DomainEvent):
    customer_id: UUID
    points: int


class CustomerBlockedError(Exception):
    """We do no business with this customer."""

    def __init__(self, customer_id: UUID) -> None:
        self.customer_id = customer_id
        super().__init__(f"customer {customer_id} is blocked")


class Customer(AggregateRoot, SQLModel, table=True):
    """Somebody who buys."""

    __tablename__ = "ordering_customer"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str = Field(max_length=100)
    email: str = Field(max_length=200)
    loyalty_points: int = 0
    is_blocked: bool = False

    def block(self) -> None:
        self.is_blocked = True

    def earn_points(self, total: int) -> None:
        """One point for every whole euro, franc, ... of a purchase."""
        if self.is_blocked:
            raise CustomerBlockedError(self.id)
        points = total // 100
        self.loyalty_points += points
        self.record_event(LoyaltyPointsEarned(self.id, points))


class Customers(ABC):
    """All customers."""

    @abstractmethod
    def add(self, customer: Customer) -> None: ...

    @abstractmethod
    async def get(self, customer_id: UUID) -> Customer:
        """The customer, for whoever wants to change it: one after the other. Raises LookupError."""

    @abstractmethod
    async def look_up(self, customer_id: UUID) -> Customer:
        """The customer, to read; raises LookupError."""
