"""Goods arrive."""

from dataclasses import dataclass

from mediator import Command, CommandHandler
from sample_app.inventory.domain import Stock, StockItem

__all__ = ["ReceiveGoods", "ReceiveGoodsHandler"]


@dataclass(frozen=True)
class ReceiveGoods(Command[None]):
    """The first delivery of a new kind."""

    sku: str
    quantity: int


class ReceiveGoodsHandler(CommandHandler[ReceiveGoods, None]):
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, command: ReceiveGoods) -> None:
        item = StockItem(sku=command.sku)
        item.receive(command.quantity)
        self.stock.add(item)
