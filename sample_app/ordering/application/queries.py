"""What can be asked about orders and customers; the views are for reading, and change nothing."""

from dataclasses import dataclass
from uuid import UUID

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Query, QueryHandler
from sample_app.ordering.domain import Customers, Order

__all__ = ["GetLoyaltyPoints", "GetLoyaltyPointsHandler", "GetOrders", "GetOrdersHandler", "OrderView"]


@dataclass(frozen=True)
class OrderView:
    order_id: UUID
    status: str
    total: int
    currency: str


@dataclass(frozen=True)
class GetOrders(Query[list[OrderView]]):
    """The orders of a customer."""

    customer_id: UUID


class GetOrdersHandler(QueryHandler[GetOrders, list[OrderView]]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: GetOrders) -> list[OrderView]:
        orders = await self.session.exec(select(Order).where(Order.customer_id == query.customer_id))
        return [OrderView(order.id, order.status, order.total, order.currency) for order in orders]


@dataclass(frozen=True)
class GetLoyaltyPoints(Query[int]):
    customer_id: UUID


class GetLoyaltyPointsHandler(QueryHandler[GetLoyaltyPoints, int]):
    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def handle(self, query: GetLoyaltyPoints) -> int:
        customer = await self.customers.look_up(query.customer_id)
        return customer.loyalty_points
