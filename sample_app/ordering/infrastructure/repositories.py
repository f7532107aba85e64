"""Repositories on the session of the unit of work: what is added or changed is saved when that commits.

What is handed out to be changed is locked until then: of two handlers that work at the same moment, the second sees
what the first has left.
"""

from typing import TypeVar
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.ordering.domain import Customer, Customers, Offer, Offers, Order, Orders, Promotion

__all__ = ["SqlCustomers", "SqlOffers", "SqlOrders"]

T = TypeVar("T")


class SqlOrders(Orders):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, order: Order) -> None:
        self.session.add(order)

    async def get(self, order_id: UUID) -> Order:
        return _found(await self.session.get(Order, order_id, with_for_update=True), f"order {order_id}")


class SqlCustomers(Customers):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, customer: Customer) -> None:
        self.session.add(customer)

    async def get(self, customer_id: UUID) -> Customer:
        return _found(await self.session.get(Customer, customer_id, with_for_update=True), f"customer {customer_id}")

    async def look_up(self, customer_id: UUID) -> Customer:
        return _found(await self.session.get(Customer, customer_id), f"customer {customer_id}")


class SqlOffers(Offers):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, made: Offer | Promotion) -> None:
        self.session.add(made)

    async def get(self, sku: str) -> Offer:
        return _found(await self.session.get(Offer, sku, with_for_update=True), f"offer for {sku}")

    async def look_up(self, sku: str) -> Offer:
        return _found(await self.session.get(Offer, sku), f"offer for {sku}")


def _found(row: T | None, what: str) -> T:
    if row is None:
        raise LookupError(f"there is no {what}")
    return row
