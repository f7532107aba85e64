"""A product gets to the front page when inventory says that there is enough of it.

The answer comes to a topic of ordering's own, which the question names: inventory need not know who asks.
"""

from dataclasses import dataclass

from mediator import Command, CommandHandler, IntegrationEventHandler, Outgoing, UnitOfWork
from sample_app.contracts import StockAskedForV1, StockToldV1
from sample_app.ordering.domain import Offers

__all__ = ["ANSWERS", "PromoteProduct", "PromoteProductHandler", "PromoteWhatIsThere"]

ANSWERS = "sample.ordering.answers"


@dataclass(frozen=True)
class PromoteProduct(Command[None]):
    sku: str


class PromoteProductHandler(CommandHandler[PromoteProduct, None]):
    def __init__(self, offers: Offers, uow: UnitOfWork) -> None:
        self.offers = offers
        self.uow = uow

    async def handle(self, command: PromoteProduct) -> None:
        offer = await self.offers.look_up(command.sku)
        self.uow.publish(Outgoing(StockAskedForV1(sku=offer.sku), callback=ANSWERS))


class PromoteWhatIsThere(IntegrationEventHandler[StockToldV1]):
    topics = (ANSWERS,)

    def __init__(self, offers: Offers) -> None:
        self.offers = offers

    async def handle(self, event: StockToldV1) -> None:
        offer = await self.offers.get(event.sku)
        promotion = offer.promote(event.available)
        if promotion is not None:
            self.offers.add(promotion)
