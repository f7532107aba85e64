"""What runs on one database: its units of work, its relay, its cleaning, its dead letters."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.application import MessageContext
from mediator.clock import Runtime
from mediator.consuming.failures import failure_facts
from mediator.errors import UsageError
from mediator.hosting.settings import MediatorSettings
from mediator.messaging.lineage import Lineage
from mediator.messaging.registry import Registry
from mediator.messaging.transport import Transport
from mediator.observability import Counters
from mediator.operations.cleaning import Cleaner
from mediator.operations.dead_letters import SENDING_SIDE, DeadLetters
from mediator.publishing.dispatcher import DomainEventDispatcher
from mediator.publishing.outbox import OutboxWriter
from mediator.publishing.relay import Relay
from mediator.publishing.unit_of_work import SqlUnitOfWork, UnitOfWorkServices, current_unit_of_work
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, OutboxTable
from mediator.storage.parked import RETRY, ParkedTable

__all__ = ["DatabaseServices", "refuse_inside"]


def refuse_inside(what: str) -> None:
    """Raise UsageError inside a unit of work, whose transaction `what` would wait for, or slip out of."""
    if current_unit_of_work() is not None:
        raise UsageError(
            f"{what} inside a unit of work: it has a transaction of its own. Call it outside of the unit of work"
        )


class DatabaseServices:
    """Everything that belongs to one database."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        dispatcher: DomainEventDispatcher,
        transport: Transport,
        settings: MediatorSettings,
        runtime: Runtime,
        counters: Counters,
        wake_retries: Callable[[], None],
        died: Callable[["DatabaseServices", str, UUID], Awaitable[None]],
    ) -> None:
        self.database = database
        self._outbox, self._parked = OutboxTable(database), ParkedTable(database)
        self.dead_letters = DeadLetters(
            database,
            registry.catalog,
            settings.limits,
            runtime,
            settings.retention.inbox,
            self._wake_all,
            refuse_inside,
            allow_edit=settings.allow_edited_replay,
        )
        self.cleaner = Cleaner(database, settings.retention)
        self.relay = Relay(
            database,
            transport,
            settings.relay,
            runtime,
            counters,
            self,
            keep_history=settings.retention.sent > timedelta(0),
        )
        self._wake_retries, self._died = wake_retries, died
        writer = OutboxWriter(registry.application, registry.environment, settings.limits, database.tables)
        self._unit_of_work = UnitOfWorkServices(database, dispatcher, writer, runtime, self.relay.wake)

    def open(
        self, context: MessageContext, lineage: Lineage, *, read_only: bool = False, ambient: bool = True
    ) -> SqlUnitOfWork:
        """A unit of work on this database."""
        return SqlUnitOfWork(self._unit_of_work, context, lineage, read_only=read_only, ambient=ambient)

    async def pending(self, paused: Collection[str]) -> Mapping[str, int]:
        """How much still has to happen here, by kind, all read at one moment."""
        async with self.database.read() as connection:
            outbox = await self._outbox.pending(connection)
            parked = await self._parked.counts(connection)
        retries = {
            f"retries of {subscriber_id}": count
            for (subscriber_id, status), count in parked.items()
            if status == RETRY and subscriber_id.partition("@")[0] not in paused
        }
        return {**outbox, **retries}

    async def died(self, subscriber_id: str, event_id: UUID) -> None:
        """A delivery to a handler died."""
        await self._died(self, subscriber_id, event_id)

    async def bury_unsent(
        self, connection: AsyncConnection, row: RowMapping, error: BaseException, attempts: int
    ) -> UUID:
        """Store an outbox row that cannot be sent as a dead letter."""
        return await self.dead_letters.bury_unsent(connection, row, {"attempts": attempts, **failure_facts(error)})

    async def announce_unsent(self, event_id: UUID) -> None:
        """An outbox row died."""
        await self._died(self, SENDING_SIDE, event_id)

    def _wake_all(self) -> None:
        self.relay.wake(range(SLOTS))
        self._wake_retries()
