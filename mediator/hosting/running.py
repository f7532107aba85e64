"""A started application: one set of services for each database, one set of consumers for each module."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from mediator.application import MessageContext
from mediator.clock import Runtime
from mediator.consuming.consumer import Consumer
from mediator.consuming.retries import Retries
from mediator.errors import BrokerError, NotRunningError, RoleError, SettingsError, TransportUnavailableError
from mediator.hosting.composition import Composition
from mediator.hosting.listening import ModuleListening
from mediator.hosting.services import DatabaseServices
from mediator.hosting.settings import MediatorSettings, Role
from mediator.messaging.deprecations import Deprecations
from mediator.messaging.lineage import Lineage
from mediator.messaging.patterns import is_wild
from mediator.messaging.supervision import shielded, together
from mediator.messaging.transport import Publisher, Transport
from mediator.observability import Counters
from mediator.operations.pauses import RELAY, Pauses
from mediator.publishing.direct import publish_direct
from mediator.publishing.dispatcher import DomainEventDispatcher
from mediator.publishing.mediator import UnitOfWorkMediator
from mediator.publishing.unit_of_work import SqlUnitOfWork
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.transports import LocalBeside, MemoryTransport

__all__ = ["Running"]

log = structlog.get_logger(__name__)
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
        roles: frozenset[Role],
        died: Callable[[DatabaseServices, str, UUID], Awaitable[None]],
    ) -> None:
        self._roles = roles
        self._one_suspect = asyncio.Lock()
        self.transport = transport
        local = MemoryTransport()
        has_local = composition.registry.catalog.has_local and not transport.capabilities.in_process
        self._transports: Sequence[Transport] = (transport, local) if has_local else (transport,)
        self._publisher: Publisher = transport
        if has_local:
            self._publisher = LocalBeside(transport, local, composition.registry.catalog.is_local)
        self._settings, self._runtime, self._counters = settings, runtime, counters
        self._composition = composition
        registry = composition.registry
        self.pauses = Pauses(databases[registry.modules[0]], self.named, self.wake)
        dispatcher = DomainEventDispatcher(registry, composition.plan)
        deprecations = Deprecations(runtime.now, counters)
        by_database = {
            id(database): DatabaseServices(
                database,
                registry,
                dispatcher,
                self._publisher,
                settings,
                runtime,
                counters,
                self._wake_retries,
                died,
                composition.publishing_middleware,
                deprecations,
                self.pauses.active,
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
            self.check_role,
        )
        self._listening = {
            module: ModuleListening(
                module,
                composition,
                services,
                self._transports,
                settings,
                runtime,
                counters,
                instance,
                self.pauses.active,
                self._one_suspect,
                self._wake_retries,
            )
            for module, services in self.of_module.items()
        }
        for entry in registry.subscribers:
            self._listening[entry.module].add(entry)
        self._accepting, self._stopping, self._subscribing = False, False, asyncio.Lock()
        self._cancellations = 0
        """Of the task that stops the application, when it began to."""

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Start everything; on leaving, stop it in the order of an event's way."""
        async with AsyncExitStack() as stack:
            if self._roles & {"relay", "consume"}:
                stack.push_async_callback(self._close_relays)
                for transport in self._transports:
                    await transport.open()
                    stack.push_async_callback(transport.close)
                await self._check_broker()
                await self._provision()
            # Handlers send commands, from the first to the last that runs.
            self._accepting = True
            stack.callback(self._refuse)
            for services in self.services:
                await stack.enter_async_context(services.telling())
            if self._roles & {"relay", "consume"}:
                await stack.enter_async_context(self.pauses.watched())
            if "consume" in self._roles:
                await self._start_consumers(stack)
            if "relay" in self._roles:
                for services in self.services:
                    await stack.enter_async_context(services.relaying())
            try:
                yield
            finally:
                self._cancellations = _cancellations()

    @property
    def consumers(self) -> list[Consumer]:
        """Those of all modules."""
        return [consumer for one in self._listening.values() for consumer in one.consumers.values()]

    @property
    def retries(self) -> list[Retries]:
        """Those of the modules that listen."""
        return [one.retries for one in self._listening.values() if one.consumers]

    async def subscribe(self, handler: type[Any] | str, topics: Sequence[str], module: str) -> None:
        """Let a handler listen from now on, or one that does listen to more. What fails half-way may be repeated."""
        if "consume" not in self._roles:
            raise RoleError("subscribe()", "consume", sorted(self._roles))
        async with self._subscribing:
            if self._stopping:
                raise NotRunningError("subscribe()")
            entry = self._composition.subscriber(handler, topics, module)
            self._check_patterns(self._composition.registry.topics_of(entry))
            self._composition.add(entry)
            # It rests from the beginning if its module does.
            await self.pauses.look()
            listening = self._listening[entry.module]
            listening.add(entry)
            await self._provision()
            await listening.listen()

    async def _start_consumers(self, stack: AsyncExitStack) -> None:
        async with self._subscribing:
            stack.push_async_callback(self._stop_consumers)
            for listening in self._listening.values():
                if listening.consumers:
                    await listening.listen()

    @property
    def _groups(self) -> dict[str, frozenset[str]]:
        """What each group listens to."""
        return {consumer.group: consumer.topics for consumer in self.consumers}

    async def _check_broker(self) -> None:
        faults = await self.transport.check()
        if faults and self._settings.broker.strict:
            raise BrokerError(self.transport.name, "; ".join(map(str, faults)), "Or set broker.strict = False")
        for fault in faults:
            log.warning(
                "transport.setting_weakens_promises", transport=self.transport.name, what=fault.what, fix=fault.fix
            )

    async def _provision(self) -> None:
        groups = self._groups
        listened = frozenset[str]().union(*groups.values())
        self._check_patterns(listened)
        expected = self._settings.broker.provision
        if expected != "ignore":
            local = {one.address for one in self._composition.registry.catalog if one.topic.local}
            topics = {one.address for one in self._composition.registry.catalog}
            topics.update(topic for topic in listened if not is_wild(topic))
            await self.transport.provision(sorted(topics - local), groups, create=expected == "create")

    async def publish_direct(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Hand events to the transport, past the outbox."""
        if not self._roles & {"relay", "consume"}:
            raise RoleError("publish_direct()", "relay", sorted(self._roles))
        await publish_direct(self._publisher, rows)

    async def pending(self, *, scheduled: bool) -> dict[str, int]:
        """What still has to happen, by kind; empty when there is nothing."""
        found: Counter[str] = Counter()
        for services in self.services:
            try:
                found.update(await services.pending(self.pauses.active))
            except Exception as error:
                if not is_transient(error):
                    raise
                found["databases that do not answer"] += 1
        if not scheduled:
            del found["scheduled events"]
        found["consumers at work"] = sum(not consumer.is_idle for consumer in self.consumers)
        found["retries at work"] = sum(not retries.is_idle for retries in self.retries)
        if not +found and self._roles & {"relay", "consume"}:
            found.update(await self._under_way())
        return {name: count for name, count in found.items() if count}

    async def _under_way(self) -> Mapping[str, int]:
        try:
            return {"events under way": sum((await self.transport.backlog(self._groups)).values())}
        except TransportUnavailableError:
            return {"brokers that do not answer": 1}

    async def drained(self, *, scheduled: bool) -> None:
        """Return when nothing is pending."""
        # Several databases, or one and a broker, are not read at one moment: an event may pass from the last to the
        # first meanwhile.
        looks = 1 if len(self.services) == 1 and self.transport.capabilities.in_process else 2
        clean = 0
        while clean < looks:
            clean = 0 if await self.pending(scheduled=scheduled) else clean + 1
            if clean == 0:
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def named(self, name: str) -> set[str]:
        """Whom the name of a handler or module means, or RELAY."""
        subscribers = self._composition.registry.subscribers
        return {RELAY} & {name} | {entry.id for entry in subscribers if name in (entry.id, entry.module)}

    def check_role(self, what: str) -> None:
        """Raise RoleError when this process does not begin units of work."""
        if "publish" not in self._roles:
            raise RoleError(what, "publish", sorted(self._roles))

    def wake(self) -> None:
        """Look at everything now."""
        self._wake_retries()

    def _open(
        self, context: MessageContext, lineage: Lineage, *, read_only: bool = False, ambient: bool = True
    ) -> SqlUnitOfWork:
        return self.of_module[context.module].open(context, lineage, read_only=read_only, ambient=ambient)

    def _database_of(self, module: str) -> Database:
        return self.of_module[module].database

    def _check_patterns(self, topics: Collection[str]) -> None:
        wild = sorted(filter(is_wild, topics))
        if wild and not self.transport.capabilities.wildcards:
            fix = f"it takes no patterns, and handlers listen to {', '.join(wild)}: list addresses, or use another"
            raise SettingsError("transport", self.transport.name, fix)

    def _wake_retries(self) -> None:
        for retries in self.retries:
            retries.wake()

    async def _stop_consumers(self) -> None:
        self._stopping = True
        loop = asyncio.get_running_loop()
        # A cancellation since then has ended the draining before it began.
        patience = timedelta(0) if _cancellations() > self._cancellations else self._settings.drain_on_stop
        deadline = loop.time() + patience.total_seconds()
        try:
            # Whoever is just being added ends with the others.
            async with self._subscribing:
                pass
            await together(*(retries.drain(patience) for retries in self.retries))
            left = timedelta(seconds=max(deadline - loop.time(), 0))
            await together(*(consumer.drain(left) for consumer in self.consumers))
        finally:
            # A cancellation ends the draining; what has not finished by then must not commit after the end either.
            ends = [*(retries.end() for retries in self.retries), *(consumer.end() for consumer in self.consumers)]
            await shielded(together(*ends))
            await shielded(together(*(services.lane_session.close() for services in self.services)))

    def _refuse(self) -> None:
        self._accepting = False

    async def _close_relays(self) -> None:
        await shielded(together(*(services.relay.close() for services in self.services)))


def _cancellations() -> int:
    """How often somebody asked this task to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
