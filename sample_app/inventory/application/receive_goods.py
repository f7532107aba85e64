"""Goods arrive: a new kind by a command, what is known already through the gate, piece by piece."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mediator import BatchIntegrationEventHandler, Command, CommandHandler, RetryPolicy
from sample_app.contracts import PieceScannedV1
from sample_app.inventory.domain import Stock, StockItem, UnknownSkuError

__all__ = ["ReceiveGoods", "ReceiveGoodsHandler", "ShelvePieces"]


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


class ShelvePieces(BatchIntegrationEventHandler[PieceScannedV1]):
    """A pallet is many scans: those that wait are added up, in one transaction."""

    retry = RetryPolicy.exponential(permanent=(UnknownSkuError,))

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def handle(self, events: Sequence[PieceScannedV1]) -> None:
        pieces = Counter(event.sku for event in events)
        # Sorted, so that of two batches which lock the same items one waits for the other, and not each for both.
        for sku, quantity in sorted(pieces.items()):
            item = await self.stock.item(sku)
            item.receive(quantity)
