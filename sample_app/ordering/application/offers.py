"""What the shop offers."""

from dataclasses import dataclass

from mediator import Command, CommandHandler
from sample_app.ordering.domain import Offer, Offers

__all__ = ["OfferProduct", "OfferProductHandler"]


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
