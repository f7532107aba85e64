"""The repository on the session of the unit of work; what it hands out is locked until that ends."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.inventory.domain import Hold, PriceLabel, Reservation, Stock, StockItem, UnknownSkuError

__all__ = ["SqlStock"]


class SqlStock(Stock):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, kept: StockItem | Reservation | Hold | PriceLabel) -> None:
        self.session.add(kept)

    async def item(self, sku: str) -> StockItem:
        item = await self.session.get(StockItem, sku, with_for_update=True)
        if item is None:
            raise UnknownSkuError(sku)
        return item

    async def reservation(self, order_id: UUID) -> Reservation:
        reservation = await self.session.get(Reservation, order_id, with_for_update=True)
        if reservation is None:
            raise LookupError(f"nothing is set aside for order {order_id}")
        return reservation

    async def take_hold(self, hold_id: UUID) -> Hold:
        hold = await self.session.get(Hold, hold_id, with_for_update=True)
        if hold is None:
            raise LookupError(f"there is no hold {hold_id}")
        await self.session.delete(hold)
        return hold
