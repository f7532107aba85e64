"""What the shop offers, and for how much."""

from dataclasses import dataclass

from mediator import Command, CommandHandler
from sample_app.ordering.domain import Offer, Offers

__all__ = ["ChangePrice", "ChangePriceHandler", "OfferProduct", "OfferProductHandler"]


@dataclass(frozen=True)
class OfferProduct(Command[None]):
    sku: str
    price: int
    currency: str


class OfferProductHandler(CommandHandler[OfferProduct, None]):
    def __init__(self, offers: Offers) -> None:
        self.offers = offers

    async def handle(self, command: OfferProduct) -> None:
        self.offers.add(Offer(sku=command.sku, price=command.price, currency=command.currency))


@dataclass(frozen=True)
class ChangePrice(Command[None]):
    sku: str
    price: int


class ChangePriceHandler(CommandHandler[ChangePrice, None]):
    def __init__(self, offers: Offers) -> None:
        self.offers = offers

    async def handle(self, command: ChangePrice) -> None:
        offer = await self.offers.get(command.sku)
        offer.change_price(command.price)
