"""The offer: what something costs, and whether it is on the front page."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent

__all__ = ["Offer", "Offers", "PriceChanged", "Promotion"]

_ENOUGH = 10
"""Pieces that have to be there before the front page praises them."""


@dataclass(frozen=True)
class PriceChanged(DomainEvent):
    sku: str
    price: int
    currency: str


class Promotion(SQLModel, table=True):
    """A place on the front page."""

    __tablename__ = "ordering_promotion"

    sku: str = Field(primary_key=True, max_length=40)


class Offer(AggregateRoot, SQLModel, table=True):
    """What one piece costs."""

    __tablename__ = "ordering_offer"

    sku: str = Field(primary_key=True, max_length=40)
    price: int
    """In the currency's smallest unit."""
    currency: str = Field(max_length=3)

    def price_of(self, quantity: int) -> int:
        if quantity < 1:
            raise ValueError(f"{quantity} pieces of {self.sku} cannot be ordered: order at least one")
        return self.price * quantity

    def change_price(self, price: int) -> None:
        self.price = price
        self.record_event(PriceChanged(self.sku, price, self.currency))

    def promote(self, available: int) -> Promotion | None:
        """A place on the front page, or none when there are too few pieces."""
        return Promotion(sku=self.sku) if available >= _ENOUGH else None


class Offers(ABC):
    """All offers, and what is on the front page."""

    @abstractmethod
    def add(self, made: Offer | Promotion) -> None: ...

    @abstractmethod
    async def get(self, sku: str) -> Offer:
        """The offer, for whoever wants to change it: one after the other. Raises LookupError."""

    @abstractmethod
    async def look_up(self, sku: str) -> Offer:
        """The offer, to read; raises LookupError."""
