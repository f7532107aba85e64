"""A started application: one set of services for each database, one set of consumers for each module."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from uuid import UUID

from mediator.application import MessageContext
from mediator.clock import Runtime
from mediator.consuming.consumer import Consumer
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.parking import Parking
from mediator.consuming.reading import Reader
from mediator.consuming.retries import Retries
from mediator.consuming.subscriber import Subscriber
from mediator.hosting.composition import Composition
from mediator.hosting.services import DatabaseServices
from mediator.hosting.settings import MediatorSettings
from mediator.messaging.invocation import compile_invocation
from mediator.messaging.lineage import Lineage
from mediator.messaging.registry import SubscriberEntry
from mediator.messaging.transport import Transport
from mediator.observability import Counters
from mediator.publishing.dispatcher import DomainEventDispatcher
from mediator.publishing.mediator import UnitOfWorkMediator
from mediator.publishing.unit_of_work import SqlUnitOfWork
from mediator.storage.database import Database

__all__ = ["Running"]

_LOOK_AGAIN_SECONDS = 0.01


class Running:
    """Everything that runs, and how it starts and stops."""

    def __init__(
        self,
        composition: Composition,
        databases: Mapping[str, Database],
        transport: Transport,
        settings: MediatorSettings,
        runtime: Runtime,
        counters: Counters,
        instance: str,
        died: Callable[[DatabaseServices, str, UUID], Awaitable[None]],
    ) -> None:
        self.paused: set[str] = set()
        self._one_suspect = asyncio.Lock()
        self.transport = transport
        self._settings, self._runtime, self._counters = settings, runtime, counters
        self._composition, self._instance = composition, instance
        registry = composition.registry
        dispatcher = DomainEventDispatcher(registry, composition.plan)
        by_database = {
            id(database): DatabaseServices(
                database, registry, dispatcher, transport, settings, runtime, counters, self._wake_retries, died
            )
            for database in databases.values()
        }
        self.services = list(by_database.values())
        self.of_module = {module: by_database[id(database)] for module, database in databases.items()}
        self.mediator = UnitOfWorkMediator(
            registry,
            composition.plan,
            composition.behaviors,
            self._open,
            self._database_of,
            runtime,
            lambda: self._accepting,
        )
        self.consumers: list[Consumer] = []
        self.retries: list[Retries] = []
        for module in registry.modules:
            self._add_consumers(module)
        self._accepting = False

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Start everything; on leaving, stop it in the order of an event's way."""
        async with AsyncExitStack() as stack:
            await self.transport.open()
            stack.push_async_callback(self._close_relays)
            stack.push_async_callback(self.transport.close)
            topics = sorted({topic for consumer in self.consumers for topic in consumer.topics})
            await self.transport.provision(topics, [consumer.group for consumer in self.consumers])
            stack.push_async_callback(self._stop_consumers)
            for consumer in self.consumers:
                await consumer.start()
            for retries in self.retries:
                await retries.prepare()
                retries.start()
            for services in self.services:
                stack.push_async_callback(services.cleaner.stop)
                services.relay.start()
                services.cleaner.start()
                stack.push_async_callback(services.relay.stop)
            self._accepting = True
            yield

    async def pending(self, *, scheduled: bool) -> dict[str, int]:
        """What still has to happen, by kind; empty when there is nothing."""
        found: Counter[str] = Counter()
        for services in self.services:
            found.update(await services.pending(self.paused))
        if not scheduled:
            del found["scheduled events"]
        found["consumers at work"] = sum(not consumer.is_idle for consumer in self.consumers)
        found["retries at work"] = sum(not retries.is_idle for retries in self.retries)
        return {name: count for name, count in found.items() if count}

    async def drained(self, *, scheduled: bool) -> None:
        """Return when nothing is pending."""
        # Several databases are not read at one moment: an event may pass from the last to the first meanwhile.
        looks = 1 if len(self.services) == 1 else 2
        clean = 0
        while clean < looks:
            clean = 0 if await self.pending(scheduled=scheduled) else clean + 1
            if clean == 0:
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def wake(self) -> None:
        """Look at everything now."""
        self._wake_retries()

    def _open(
        self, context: MessageContext, lineage: Lineage, *, read_only: bool = False, ambient: bool = True
    ) -> SqlUnitOfWork:
        return self.of_module[context.module].open(context, lineage, read_only=read_only, ambient=ambient)

    def _database_of(self, module: str) -> Database:
        return self.of_module[module].database

    def _add_consumers(self, module: str) -> None:
        registry, services = self._composition.registry, self.of_module[module]
        entries = [entry for entry in registry.subscribers if entry.module == module]
        if not entries:
            return
        parking = Parking(services.database, self._runtime, self._wake_retries, services.died)
        idempotent = IdempotentConsumer(services.database, parking, services.open, self._runtime, self._counters)
        reader = Reader(
            module, registry.catalog, self._settings.limits, services.database, self._runtime, services.died
        )
        group = f"{registry.application}.{module}"
        consumers = [
            self._consumer(name, members, reader, idempotent)
            for name, members in (
                (group, [entry for entry in entries if not entry.broadcast]),
                (f"{group}.{self._instance}", [entry for entry in entries if entry.broadcast]),
            )
            if members
        ]
        self.consumers.extend(consumers)
        self.retries.append(
            Retries(
                module,
                consumers,
                reader,
                idempotent,
                services.database,
                self._settings.consumer,
                self.paused,
                self._one_suspect,
            )
        )

    def _consumer(
        self, group: str, entries: Sequence[SubscriberEntry], reader: Reader, idempotent: IdempotentConsumer
    ) -> Consumer:
        subscribers = [
            Subscriber(
                # Every instance has its own copy of a broadcast, so its own rows in the inbox too.
                id=f"{entry.id}{suffix}",
                aliases=tuple(f"{alias}{suffix}" for alias in entry.aliases),
                entry=entry,
                build=self._composition.plan(entry.handler_class),
                invoke=compile_invocation(entry.handler_class),
            )
            for entry in entries
            for suffix in (f"@{self._instance}" if entry.broadcast else "",)
        ]
        catalog = self._composition.registry.catalog
        topics = {
            event_type.address
            for event_type in catalog
            for entry in entries
            for wanted in entry.events
            if catalog.path(event_type.event_class, wanted) is not None
        }
        return Consumer(
            group,
            sorted(topics),
            subscribers,
            reader,
            idempotent,
            self.transport,
            self._settings.consumer,
            self._runtime,
            self.paused,
        )

    def _wake_retries(self) -> None:
        for retries in self.retries:
            retries.wake()

    async def _stop_consumers(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_on_stop.total_seconds()
        try:
            # Handlers that are still at work may send commands.
            await asyncio.gather(*(retries.stop(self._settings.drain_on_stop) for retries in self.retries))
            left = timedelta(seconds=max(deadline - loop.time(), 0))
            await asyncio.gather(*(consumer.stop(left) for consumer in self.consumers))
        finally:
            self._accepting = False

    async def _close_relays(self) -> None:
        for services in self.services:
            await services.relay.close()
