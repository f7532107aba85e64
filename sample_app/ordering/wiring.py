"""What ordering's handlers get for the interfaces that they name."""

from injector import Module, provider
from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.ordering.domain import Customers, Offers, Orders
from sample_app.ordering.infrastructure import SqlCustomers, SqlOffers, SqlOrders

__all__ = ["OrderingWiring"]


class OrderingWiring(Module):
    @provider
    def orders(self, session: AsyncSession) -> Orders:
        return SqlOrders(session)

    @provider
    def customers(self, session: AsyncSession) -> Customers:
        return SqlCustomers(session)

    @provider
    def offers(self, session: AsyncSession) -> Offers:
        return SqlOffers(session)
