"""The application: modules, a database, a transport, and everything that runs between them.

    app = MediatorApp(
        "shop",
        modules=[Module("ordering", package="shop.ordering"), Module("inventory", package="shop.inventory")],
        database="sqlite+aiosqlite:///shop.db",
        environment="dev",
    )
    async with app:                                   # verifies wiring and schema, starts relay and consumers
        order_id = await app.mediator.send(PlaceOrder("KB-01"))

Leaving the block stops in the order of an event's way: nothing more is relayed, what is under way finishes within its
time, the rest is given back, and what was confirmed is removed from the outbox. Nothing that was committed is lost by
stopping, whenever and however that happens.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import structlog

from mediator.application import IntegrationEventHandler, Mediator, MessageContext, PipelineBehavior, Publishable
from mediator.clock import Runtime
from mediator.errors import DrainTimeoutError, NotRunningError, SettingsError, UsageError
from mediator.hosting.arguments import (
    check_arguments,
    check_names,
    check_roles,
    check_subscriptions,
    mapped_environment,
)
from mediator.hosting.composition import Composition, Middleware
from mediator.hosting.mediator import StableMediator
from mediator.hosting.module import Bindings, Module
from mediator.hosting.running import Running
from mediator.hosting.services import DatabaseServices, refuse_inside
from mediator.hosting.settings import ROLES, MediatorSettings, Role
from mediator.hosting.signals import run_until_signalled
from mediator.messaging.registry import Registry
from mediator.messaging.supervision import shielded
from mediator.messaging.transport import Transport
from mediator.observability import Counters
from mediator.operations.dead_letters import DeadLetters
from mediator.operations.describe import describe
from mediator.operations.letters import DeadLetter
from mediator.operations.lineage import LineageNode, lineage_of
from mediator.operations.pauses import RELAY, Pauses
from mediator.publishing.mediator import new_lineage
from mediator.publishing.unit_of_work import SqlUnitOfWork, current_unit_of_work, join_unit_of_work
from mediator.storage.database import Database, checked_url
from mediator.storage.schema import create_schema, ddl, take_over, verify_schema
from mediator.storage.slots import verify_slot_locks
from mediator.storage.tables import Tables
from mediator.transports import transport_for

__all__ = ["MediatorApp", "OnDeadLetter"]

log = structlog.get_logger(__name__)
OnDeadLetter = Callable[[DeadLetter], Awaitable[None] | None]


class MediatorApp:
    """A modular application; `async with app:` runs it. Raises WiringError with every fault when it starts."""

    def __init__(
        self,
        name: str,
        *,
        modules: Sequence[Module],
        database: str,
        environment: str,
        transport: str | Transport = "memory://",
        roles: Collection[Role] = ROLES,
        environments: Mapping[str, str] | None = None,
        contracts: Sequence[str] = (),
        bindings: Bindings = (),
        behaviors: Sequence[type[PipelineBehavior]] = (),
        middleware: Sequence[Middleware] = (),
        subscriptions: Mapping[str, Sequence[str]] | None = None,
        schema: Literal["auto", "create", "verify", "ignore"] = "auto",
        settings: MediatorSettings | None = None,
        runtime: Runtime | None = None,
        on_dead_letter: OnDeadLetter | None = None,
        instance: str = "main",
    ) -> None:
        check_names(name=name, instance=instance)
        check_arguments(modules, contracts, behaviors, middleware, schema, settings, on_dead_letter)
        check_roles(roles)
        check_subscriptions(subscriptions)
        self.name = name
        self.environment = mapped_environment(environment, environments or {})
        self.counters = Counters()
        self._modules, self._contracts, self._bindings = tuple(modules), tuple(contracts), tuple(bindings)
        self._behaviors, self._middleware = tuple(behaviors), tuple(middleware)
        self._subscriptions = subscriptions or {}
        self._schema, self._instance = schema, instance
        self._settings, self._runtime = settings or MediatorSettings(), runtime or Runtime()
        self._transport, self._on_dead_letter = transport, on_dead_letter
        self._roles = frozenset(roles)
        self._places = {
            module.name: (
                database if module.database is None else module.database,
                self._settings.schema_name if module.schema_name is None else module.schema_name,
            )
            for module in modules
        }
        checked_url(database)
        for url, schema_name in self._places.values():
            Tables(self._settings.table_prefix, schema_name, checked_url(url).get_backend_name())
        self.mediator: Mediator = StableMediator(lambda what: self._started(what).mediator)
        """Sends commands and queries while the application runs."""
        self._running: Running | None = None
        self._starting = False
        self._stack = AsyncExitStack()

    @cached_property
    def _composition(self) -> Composition:
        return Composition(
            self.name,
            self.environment,
            self._modules,
            self._contracts,
            self._bindings,
            self._behaviors,
            self._middleware,
            self._subscriptions,
            {
                Mediator: lambda: self.mediator,
                MediatorApp: lambda: self,
                Runtime: lambda: self._runtime,
                Counters: lambda: self.counters,
            },
        )

    @property
    def registry(self) -> Registry:
        """All that was found in the modules; raises WiringError. Opens no database."""
        return self._composition.registry

    def describe(self) -> str:
        """The wiring report: who handles, converts and publishes what."""
        return describe(self.registry)

    def ddl(self, since: str | None = None) -> str:
        """The toolkit's tables as SQL text; or what leads there from tables of the version `since`."""
        return "\n".join(ddl(database, since) for database in dict.fromkeys(self._databases().values()))

    @property
    def transport(self) -> Transport:
        """The transport in use."""
        return self._started("transport").transport

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters of the first module's database."""
        return self.dead_letters_of(self._modules[0].name)

    def dead_letters_of(self, module: str) -> DeadLetters:
        """The dead letters of the database of `module`."""
        return self._services(module).dead_letters

    @asynccontextmanager
    async def unit_of_work(
        self, module: str | None = None, *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> AsyncIterator[SqlUnitOfWork]:
        """A unit of work by hand; leaving the block commits, an exception rolls back. Inside another one it joins."""
        module = module or self._modules[0].name
        services = self._services(module)
        joined = join_unit_of_work("unit_of_work()", module, services.database)
        if joined is not None:
            yield joined
            return
        self._started("unit_of_work()").check_role("unit_of_work()")
        lineage = new_lineage(self._runtime, "unit of work", correlation_id, traceparent)
        context = MessageContext(
            message_id=lineage.message_id,
            message_type="unit of work",
            correlation_id=lineage.correlation_id,
            causation_id=lineage.causation_id,
            module=module,
            traceparent=traceparent,
        )
        async with services.open(context, lineage) as uow:
            yield uow

    async def publish_in_own_transaction(self, *events: Publishable, module: str | None = None) -> None:
        """Publish when nothing else has to commit together with it."""
        if current_unit_of_work() is not None:
            raise UsageError(
                "publish_in_own_transaction() inside a unit of work would publish even if that rolls back: "
                "use the publisher of the unit of work"
            )
        async with self.unit_of_work(module) as uow:
            uow.publish(*events)

    async def publish_direct(self, *events: Publishable, module: str | None = None) -> None:
        """Hand events to the transport at once, past the outbox: what is lost on the way is lost.

        Raises the transport's first error when all outcomes are known. `memory://` confirms when the handlers are done.
        """
        refuse_inside("publish_direct()")
        async with self.unit_of_work(module) as uow:
            uow.publish(*events)
            rows = uow.take_rows()
        await self._started("publish_direct()").publish_direct(rows)

    async def drained(self, timeout: timedelta = timedelta(seconds=30), *, scheduled: bool = True) -> None:
        """Return when nothing is pending anywhere: outbox, handlers, retries, and scheduled events unless left out.

        Dead letters, what waits behind them and what is paused are not pending: they wait for a person. Raises
        DrainTimeoutError that names what is left.
        """
        running = self._started("drained()")
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await running.drained(scheduled=scheduled)
        except TimeoutError:
            pending = await running.pending(scheduled=scheduled)
            what = ", ".join(f"{count} {name}" for name, count in pending.items())
            raise DrainTimeoutError(timeout, what or "nothing any more") from None

    async def subscribe(
        self, handler: type[IntegrationEventHandler[Any]] | str, *topics: str, module: str | None = None
    ) -> None:
        """Let a handler listen from now on, in this process: each of several has to be told.

        A handler of the application, or its subscriber id, listens to `topics` as well. Any other class becomes a
        handler of `module`, the first by default, with `topics` in place of its own if some are given. Raises
        WiringError with every fault.
        """
        refuse_inside("subscribe()")
        await self._started("subscribe()").subscribe(handler, topics, module or self._modules[0].name)

    def pause(self, name: str) -> None:
        """Let a handler, all of a module, or the relays ("@relay") rest in this process, as long as it runs.

        What arrives for a handler that rests is kept, and nothing else waits for it.
        """
        self._pauses_for("pause()", name).begin(name)

    def resume(self, name: str) -> None:
        """End a `pause` of this name; a handler begins with what was kept."""
        self._pauses_for("resume()", name).end(name)

    async def pause_everywhere(self, name: str, *, actor: str = "application", reason: str | None = None) -> None:
        """The same in every process within a second or two, and after restarts, until `resume_everywhere`."""
        refuse_inside("pause_everywhere()")
        await self._pauses_for("pause_everywhere()", name).begin_everywhere(name, actor, reason)

    async def resume_everywhere(self, name: str, *, actor: str = "application", reason: str | None = None) -> None:
        """End a `pause_everywhere` of this name."""
        refuse_inside("resume_everywhere()")
        await self._pauses_for("resume_everywhere()", name).end_everywhere(name, actor, reason)

    @property
    def paused(self) -> frozenset[str]:
        """The handlers that rest in this process now, and "@relay" when its relays do."""
        return frozenset(self._started("paused").pauses.active)

    async def lineage(self, correlation_id: str) -> Sequence[LineageNode]:
        """All that a correlation id set off, as trees."""
        return await lineage_of([services.database for services in self._started("lineage()").services], correlation_id)

    async def clean(self) -> int:
        """Remove what has expired now instead of at the next interval; gives the number of rows."""
        refuse_inside("clean()")
        return sum([await services.cleaner.clean() for services in self._started("clean()").services])

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, and stop in order; a second signal does not wait for what is under way.

        For a process that does nothing else. In the main thread, on POSIX systems.
        """
        await run_until_signalled(self)

    async def __aenter__(self) -> Self:
        if self._running is not None or self._starting:
            raise UsageError(f"application {self.name!r} is running already: leave its block before entering it again")
        self._starting = True
        try:
            await self._start()
        finally:
            self._starting = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        composition, databases = self._composition, self._databases()
        async with AsyncExitStack() as stack:
            for database in dict.fromkeys(databases.values()):
                stack.push_async_callback(_close, database)
                await database.open()
                await self._prepare(database)
                if "relay" in self._roles:
                    await verify_slot_locks(database)
            transport = self._transport
            if isinstance(transport, str):
                transport = transport_for(transport, databases[self._modules[0].name])
            if len(self._roles & {"relay", "consume"}) == 1:
                self._check_separation(transport)
            running = Running(
                composition,
                databases,
                transport,
                self._settings,
                self._runtime,
                self.counters,
                self._instance,
                self._roles,
                self._died,
            )
            # Known before it has started: what was left undone runs at once, and may send commands.
            self._running = running
            stack.callback(self._forget_running)
            await stack.enter_async_context(running.started())
            self._stack = stack.pop_all()

    def _check_separation(self, transport: Transport) -> None:
        """Raise SettingsError when whoever relays here has to consume as well."""
        if transport.capabilities.in_process or self.registry.catalog.has_local:
            what = f"transport {transport.name!r}" if transport.capabilities.in_process else "what has local events"
            fix = f"{what} delivers within the process: give it both relay and consume"
            raise SettingsError("roles", sorted(self._roles), fix)

    def _databases(self) -> dict[str, Database]:
        """The database of each module; modules at one place share one."""
        made = {place: self._database(*place) for place in dict.fromkeys(self._places.values())}
        return {module: made[place] for module, place in self._places.items()}

    def _database(self, url: str, schema_name: str | None) -> Database:
        settings = self._settings
        return Database(
            url,
            prefix=settings.table_prefix,
            schema=schema_name,
            settings=settings.database,
            partitioned_inbox=settings.retention.inbox_partition is not None,
        )

    async def _prepare(self, database: Database) -> None:
        if self._schema == "create" or (self._schema == "auto" and database.dialect == "sqlite"):
            await create_schema(database)
        if self._schema != "ignore":
            await verify_schema(database)
            await take_over(database, self.name)

    def _forget_running(self) -> None:
        self._running = None

    def _started(self, what: str) -> Running:
        if self._running is None:
            raise NotRunningError(what)
        return self._running

    def _services(self, module: str) -> DatabaseServices:
        running = self._started(f"module {module!r}")
        if module not in running.of_module:
            raise SettingsError("module", module, f"this application has {', '.join(running.of_module)}")
        return running.of_module[module]

    def _pauses_for(self, what: str, name: str) -> Pauses:
        running = self._started(what)
        if name not in self.registry.modules and not running.named(name):
            known = [*(entry.id for entry in self.registry.subscribers), *self.registry.modules, RELAY]
            raise SettingsError("name", name, f"this application has {', '.join(known)}")
        return running.pauses

    async def _died(self, services: DatabaseServices, subscriber_id: str, event_id: UUID) -> None:
        log.error("delivery.died", subscriber=subscriber_id, event_id=str(event_id))
        if self._on_dead_letter is None:
            return
        letters = await services.dead_letters.list(subscriber_id=subscriber_id, event_id=event_id)
        for letter in letters:
            try:
                outcome: Any = self._on_dead_letter(letter)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                # It is stored already; what the hook does about it is a courtesy.
                log.exception("dead_letter_hook.failed", subscriber=subscriber_id, event_id=str(event_id))


async def _close(database: Database) -> None:
    await shielded(database.close())
