"""The offer: what something costs."""

from abc import ABC, abstractmethod

from sqlmodel import Field, SQLModel

__all__ = ["Offer", "Offers"]


class Offer(SQLModel, table=True):
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


class Offers(ABC):
    """All offers."""

    @abstractmethod
    def add(self, offer: Offer) -> None: ...

    @abstractmethod
    async def get(self, sku: str) -> Offer:
        """The offer; raises LookupError."""
