"""What can be asked about stock."""

from dataclasses import dataclass

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Query, QueryHandler
from sample_app.inventory.domain import PriceLabel, Reservation, StockItem, UnknownSkuError

__all__ = ["GetLabels", "GetLabelsHandler", "GetStock", "GetStockHandler", "StockView"]


@dataclass(frozen=True)
class StockView:
    available: int
    reservations: int
    """For how many orders pieces are set aside."""


@dataclass(frozen=True)
class GetStock(Query[StockView]):
    sku: str


class GetStockHandler(QueryHandler[GetStock, StockView]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: GetStock) -> StockView:
        item = await self.session.get(StockItem, query.sku)
        if item is None:
            raise UnknownSkuError(query.sku)
        held = select(func.count()).where(Reservation.sku == query.sku, col(Reservation.is_released).is_(False))
        return StockView(item.available, (await self.session.exec(held)).one())


@dataclass(frozen=True)
class GetLabels(Query[list[str]]):
    """The texts of the labels that were printed, the latest last."""

    sku: str


class GetLabelsHandler(QueryHandler[GetLabels, list[str]]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: GetLabels) -> list[str]:
        printed = select(PriceLabel.text).where(PriceLabel.sku == query.sku).order_by(col(PriceLabel.id))
        return list(await self.session.exec(printed))
