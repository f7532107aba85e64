"""The shop put together: four modules, one database, one transport."""

from datetime import timedelta

from sqlmodel import SQLModel

from mediator import MediatorApp, MediatorSettings, Module, RetryPolicy, Runtime
from mediator.consuming.consumer import ConsumerSettings
from mediator.messaging.transport import Transport
from mediator.publishing.relay import RelaySettings
from sample_app.billing.application.payment_gateway import PaymentGateway
from sample_app.billing.infrastructure import SandboxGateway
from sample_app.billing.wiring import BillingWiring
from sample_app.inventory.wiring import InventoryWiring
from sample_app.notifications.wiring import NotificationsWiring
from sample_app.ordering.wiring import OrderingWiring

__all__ = ["create_tables", "make_shop"]

# A story should not keep its reader waiting: a shop that is not a sample leaves all of this as it is.
_QUICK = MediatorSettings(
    relay=RelaySettings(
        poll=timedelta(milliseconds=50), retry=RetryPolicy.exponential(first_delay=timedelta(milliseconds=20))
    ),
    consumer=ConsumerSettings(retry_poll=timedelta(milliseconds=20)),
)


def make_shop(
    database: str,
    *,
    gateway: PaymentGateway | None = None,
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
            Module("notifications", package="sample_app.notifications", bindings=[NotificationsWiring]),
        ],
        contracts=["sample_app.contracts"],
        database=database,
        transport=transport,
        environment="sample",
        settings=_QUICK,
        runtime=runtime,
    )


async def create_tables(shop: MediatorApp) -> None:
    """Create the shop's own tables where they are missing; the toolkit has looked after its own."""
    async with shop.unit_of_work() as uow:
        connection = await uow.session.connection()
        await connection.run_sync(SQLModel.metadata.create_all)
