"""The shop put together: four modules, one database, one transport."""

from collections.abc import Callable

from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import MediatorApp, MediatorSettings, Module, Runtime
from mediator.messaging.transport import Transport
from mediator.storage.database import DatabaseSettings
from sample_app.billing.application.payment_gateway import PaymentGateway
from sample_app.billing.infrastructure import SandboxGateway
from sample_app.billing.wiring import BillingWiring
from sample_app.inventory.wiring import InventoryWiring
from sample_app.notifications.domain import Mailbox
from sample_app.notifications.infrastructure import SqlMailbox
from sample_app.notifications.wiring import NotificationsWiring
from sample_app.ordering.wiring import OrderingWiring

__all__ = ["PREFIX", "create_tables", "make_shop"]

PREFIX = "sample_"
"""Of the toolkit's tables: a database that the sample is let into may hold those of an application in earnest."""

_SETTINGS = MediatorSettings(table_prefix=PREFIX, database=DatabaseSettings(connections=5, reading_connections=2))


def make_shop(
    database: str = "sqlite+aiosqlite:///shop.db",
    *,
    gateway: PaymentGateway | None = None,
    mailbox: Callable[[AsyncSession], Mailbox] = SqlMailbox,
    transport: str | Transport = "memory://",
    runtime: Runtime | None = None,
) -> MediatorApp:
    """The shop on a database, closed; `async with` opens it."""
    return MediatorApp(
        "shop",
        modules=[
            Module("ordering", package="sample_app.ordering", bindings=[OrderingWiring]),
            Module("inventory", package="sample_app.inventory", bindings=[InventoryWiring]),
            Module("billing", package="sample_app.billing", bindings=[BillingWiring(gateway or SandboxGateway())]),
            Module("notifications", package="sample_app.notifications", bindings=[NotificationsWiring(mailbox)]),
        ],
        contracts=["sample_app.contracts"],
        database=database,
        transport=transport,
        environment="sample",
        schema="create",
        settings=_SETTINGS,
        runtime=runtime,
    )


async def create_tables(shop: MediatorApp) -> None:
    """Create the shop's own tables where they are missing; the toolkit has looked after its own."""
    async with shop.unit_of_work() as uow:
        connection = await uow.session.connection()
        await connection.run_sync(SQLModel.metadata.create_all)
