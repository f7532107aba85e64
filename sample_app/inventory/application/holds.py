"""Goods are held for somebody who comes for them, and go back on the shelf when the time is up.

The end of the hold is told when the hold begins, with a delay, and taken back when somebody comes. So no timer has to
run meanwhile; the event waits in the outbox.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from mediator import Command, CommandHandler, IntegrationEventHandler, Outgoing, UnitOfWork
from sample_app.contracts import HoldExpiredV1
from sample_app.inventory.domain import HoldExpiredError, Stock

__all__ = ["CollectGoods", "CollectGoodsHandler", "EndHold", "HoldGoods", "HoldGoodsHandler"]


@dataclass(frozen=True)
class HoldGoods(Command[UUID]):
    sku: str
    quantity: int
    keep_for: timedelta


class HoldGoodsHandler(CommandHandler[HoldGoods, UUID]):
    def __init__(self, stock: Stock, uow: UnitOfWork) -> None:
        self.stock = stock
        self.uow = uow

    async def handle(self, command: HoldGoods) -> UUID:
        item = await self.stock.item(command.sku)
        expiry = HoldExpiredV1(hold_id=uuid4())
        self.stock.add(item.hold(expiry.hold_id, command.quantity, expiry.event_id))
        self.uow.publish(Outgoing(expiry, delay=command.keep_for))
        return expiry.hold_id


@dataclass(frozen=True)
class CollectGoods(Command[None]):
    """Raises HoldExpiredError, or LookupError when the goods are back on the shelf already."""

    hold_id: UUID


class CollectGoodsHandler(CommandHandler[CollectGoods, None]):
    def __init__(self, stock: Stock, uow: UnitOfWork) -> None:
        self.stock = stock
        self.uow = uow

    async def handle(self, command: CollectGoods) -> None:
        hold = await self.stock.take_hold(command.hold_id)
        if not await self.uow.cancel(hold.expiry_id):
            raise HoldExpiredError(hold.id)


class EndHold(IntegrationEventHandler[HoldExpiredV1]):
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, event: HoldExpiredV1) -> None:
        hold = await self.stock.take_hold(event.hold_id)
        item = await self.stock.item(hold.sku)
        item.receive(hold.quantity)
