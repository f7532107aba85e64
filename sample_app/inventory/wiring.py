"""What inventory's handlers get for the interface that they name."""

from injector import Module, provider
from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.inventory.domain import Stock
from sample_app.inventory.infrastructure import SqlStock

__all__ = ["InventoryWiring"]


class InventoryWiring(Module):
    @provider
    def stock(self, session: AsyncSession) -> Stock:
        return SqlStock(session)
