"""What runs on one database: its units of work, its relay, its cleaning, its dead letters."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from uuid import UUID

from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.application import MessageContext
from mediator.clock import Runtime
from mediator.consuming.failures import failure_facts
from mediator.errors import UsageError
from mediator.hosting.settings import MediatorSettings
from mediator.messaging.deprecations import Deprecations
from mediator.messaging.handling import Build
from mediator.messaging.lineage import Lineage
from mediator.messaging.registry import Registry
from mediator.messaging.supervision import shielded, together
from mediator.messaging.transport import Publisher
from mediator.observability import Counters
from mediator.operations.cleaning import Cleaner
from mediator.operations.dead_letters import DeadLetters
from mediator.operations.pauses import RELAY
from mediator.operations.unsent import bury_unsent
from mediator.publishing.dispatcher import DomainEventDispatcher
from mediator.publishing.outbox import OutboxWriter
from mediator.publishing.relay import Relay
from mediator.publishing.unit_of_work import SqlUnitOfWork, UnitOfWorkServices, current_unit_of_work
from mediator.publishing.wakeup import listening, telling
from mediator.storage.database import Database
from mediator.storage.locks import KeyLocks
from mediator.storage.notifications import Notifier
from mediator.storage.outbox import SLOTS, OutboxTable
from mediator.storage.parked import RETRY, SENDING_SIDE, ParkedTable
from mediator.storage.scheduled import Schedule
from mediator.storage.slots import LockSession, SlotLocks, slot_locks

__all__ = ["DatabaseServices", "refuse_inside"]

_ASKED_WITHIN = timedelta(minutes=1)


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
        transport: Publisher,
        settings: MediatorSettings,
        runtime: Runtime,
        counters: Counters,
        wake_retries: Callable[[], None],
        died: Callable[["DatabaseServices", str, UUID], Awaitable[None]],
        middleware: Sequence[Build],
        deprecations: Deprecations,
        paused: Collection[str],
    ) -> None:
        self.database = database
        self._outbox, self._parked = OutboxTable(database), ParkedTable(database)
        self.dead_letters = DeadLetters(
            database,
            registry,
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
            lambda: RELAY in paused,
            keep_history=settings.retention.sent > timedelta(0),
        )
        self.lane_session = LockSession(database)
        """Of the locks of all groups' lanes."""
        self._notifier = Notifier(database) if database.dialect == "postgresql" else None
        self._wake_retries, self._died, self._runtime = wake_retries, died, runtime
        writer = OutboxWriter(
            registry.application,
            registry.environment,
            settings.limits,
            database.tables,
            deprecations,
            with_cap=settings.foreign.cap_headers,
        )
        # Long enough to be asked what became of a commit, whoever relays and cleans meanwhile.
        keeps_history = settings.retention.sent >= _ASKED_WITHIN
        self._unit_of_work = UnitOfWorkServices(
            database,
            dispatcher,
            writer,
            runtime,
            self._wake,
            keeps_history,
            KeyLocks(database),
            Schedule(database),
            middleware,
        )

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Tell relays in other processes of what is committed here, where the database can."""
        async with telling(self._notifier) if self._notifier is not None else nullcontext():
            yield

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Relay, and clean up; on leaving, nothing more is fetched, and `relay.close` ends what is in flight."""
        is_told = self.database.dialect == "postgresql"
        async with listening(self.database, self.relay.wake) if is_told else nullcontext():
            self.relay.start()
            self.cleaner.start()
            try:
                yield
            finally:
                await shielded(together(self.relay.stop(), self.cleaner.stop()))

    def open(
        self, context: MessageContext, lineage: Lineage, *, read_only: bool = False, ambient: bool = True
    ) -> SqlUnitOfWork:
        """A unit of work on this database."""
        return SqlUnitOfWork(self._unit_of_work, context, lineage, read_only=read_only, ambient=ambient)

    def lane_locks(self, group: str, lanes: int) -> SlotLocks:
        """The locks of a group's lanes."""
        return slot_locks(self.database, f"{group}.lanes", lanes, self.lane_session)

    async def pending(self, paused: Collection[str]) -> Mapping[str, int]:
        """How much still has to happen here, by kind, all read at one moment."""
        async with self.database.snapshot() as connection:
            outbox = {} if RELAY in paused else await self._outbox.pending(connection)
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
        facts = {"attempts": attempts, **failure_facts(error)}
        return await bury_unsent(self.database, connection, row, facts, self._runtime)

    async def announce_unsent(self, event_id: UUID) -> None:
        """An outbox row died."""
        await self._died(self, SENDING_SIDE, event_id)

    def _wake(self, slots: Collection[int]) -> None:
        self.relay.wake(slots)
        if self._notifier is not None:
            owned = self.relay.owned_slots
            self._notifier.tell({slot for slot in slots if (-1 - slot if slot < 0 else slot) not in owned})

    def _wake_all(self) -> None:
        self._wake(range(SLOTS))
        self._wake_retries()
