"""Repositories on the session of the unit of work: what is added or changed is saved when that commits.

What is handed out to be changed is locked until then: of two handlers that work at the same moment, the second sees
what the first has left.
"""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.ordering.domain import Customer, Customers, Offer, Offers, Order, Orders

__all__ = ["SqlCustomers", "SqlOffers", "SqlOrders"]


class SqlOrders(Orders):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, order: Order) -> None:
        self.session.add(order)

    async def get(self, order_id: UUID) -> Order:
        order = await self.session.get(Order, order_id, with_for_update=True)
        if order is None:
            raise LookupError(f"there is no order {order_id}")
        return order


class SqlCustomers(Customers):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, customer: Customer) -> None:
        self.session.add(customer)

    async def get(self, customer_id: UUID) -> Customer:
        return _found(await self.session.get(Customer, customer_id, with_for_update=True), customer_id)

    async def look_up(self, customer_id: UUID) -> Customer:
        return _found(await self.session.get(Customer, customer_id), customer_id)


class SqlOffers(Offers):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, offer: Offer) -> None:
        self.session.add(offer)

    async def get(self, sku: str) -> Offer:
        offer = await self.session.get(Offer, sku)
        if offer is None:
            raise LookupError(f"there is no offer for {sku}")
        return offer


def _found(customer: Customer | None, customer_id: UUID) -> Customer:
    if customer is None:
        raise LookupError(f"there is no customer {customer_id}")
    return customer
