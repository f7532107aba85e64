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
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import structlog

from mediator.application import Mediator, MessageContext, PipelineBehavior, Publishable
from mediator.clock import Runtime
from mediator.errors import DrainTimeoutError, NotRunningError, SettingsError, UsageError
from mediator.hosting.composition import Composition
from mediator.hosting.mediator import StableMediator
from mediator.hosting.module import Bindings, Module
from mediator.hosting.running import Running
from mediator.hosting.services import DatabaseServices, refuse_inside
from mediator.hosting.settings import MediatorSettings
from mediator.messaging.registry import Registry
from mediator.messaging.transport import Transport
from mediator.observability import Counters
from mediator.operations.dead_letters import DeadLetter, DeadLetters
from mediator.operations.describe import describe
from mediator.operations.lineage import LineageNode, lineage_of
from mediator.publishing.mediator import new_lineage
from mediator.publishing.unit_of_work import SqlUnitOfWork, current_unit_of_work, join_unit_of_work
from mediator.storage.database import Database, checked_url
from mediator.storage.schema import create_schema, ddl, verify_schema
from mediator.storage.tables import Tables
from mediator.transports import transport_for

__all__ = ["MediatorApp", "OnDeadLetter"]

log = structlog.get_logger(__name__)
_LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
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
        environments: Mapping[str, str] | None = None,
        contracts: Sequence[str] = (),
        bindings: Bindings = (),
        behaviors: Sequence[type[PipelineBehavior]] = (),
        schema: Literal["auto", "create", "verify", "ignore"] = "auto",
        settings: MediatorSettings | None = None,
        runtime: Runtime | None = None,
        on_dead_letter: OnDeadLetter | None = None,
        instance: str = "main",
    ) -> None:
        for setting, value in (("name", name), ("instance", instance)):
            if not _NAME.fullmatch(value) or len(value) > _LONGEST_NAME:
                raise SettingsError(setting, value, "use lower-case words joined by dashes, at most 40 characters")
        _check_arguments(modules, contracts, behaviors, schema, settings, on_dead_letter)
        self.name = name
        self.environment = _mapped(environment, environments or {})
        self.counters = Counters()
        self._modules, self._contracts, self._bindings = tuple(modules), tuple(contracts), tuple(bindings)
        self._behaviors, self._schema, self._instance = tuple(behaviors), schema, instance
        self._settings, self._runtime = settings or MediatorSettings(), runtime or Runtime()
        self._transport, self._on_dead_letter = transport, on_dead_letter
        self._database_urls = {module.name: module.database or database for module in modules}
        self._tables = Tables(self._settings.table_prefix, self._settings.schema_name)
        for url in self._database_urls.values():
            checked_url(url)
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

    def ddl(self) -> str:
        """The toolkit's tables as SQL text."""
        return "\n".join(ddl(database) for database in {id(one): one for one in self._databases().values()}.values())

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

    def pause(self, subscriber_id: str) -> None:
        """Let a handler rest: what arrives for it is kept, and nothing else waits for it."""
        self._known(subscriber_id)
        self._started("pause()").paused.add(subscriber_id)

    def resume(self, subscriber_id: str) -> None:
        """Let a handler work again, beginning with what was kept."""
        self._known(subscriber_id)
        running = self._started("resume()")
        running.paused.discard(subscriber_id)
        running.wake()

    async def lineage(self, correlation_id: str) -> Sequence[LineageNode]:
        """All that a correlation id set off, as trees."""
        return await lineage_of([services.database for services in self._started("lineage()").services], correlation_id)

    async def clean(self) -> int:
        """Remove what has expired now instead of at the next interval; gives the number of rows."""
        refuse_inside("clean()")
        return sum([await services.cleaner.clean() for services in self._started("clean()").services])

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
        try:
            await self._stack.aclose()
        finally:
            self._running = None

    async def _start(self) -> None:
        composition, databases = self._composition, self._databases()
        async with AsyncExitStack() as stack:
            for database in {id(one): one for one in databases.values()}.values():
                stack.push_async_callback(database.close)
                await database.open()
                await self._prepare(database)
            transport = transport_for(self._transport) if isinstance(self._transport, str) else self._transport
            running = Running(
                composition,
                databases,
                transport,
                self._settings,
                self._runtime,
                self.counters,
                self._instance,
                self._died,
            )
            await stack.enter_async_context(running.started())
            self._stack = stack.pop_all()
        self._running = running

    def _databases(self) -> dict[str, Database]:
        made: dict[str, Database] = {}
        for url in self._database_urls.values():
            if url not in made:
                made[url] = Database(url, self._tables)
        return {module: made[url] for module, url in self._database_urls.items()}

    async def _prepare(self, database: Database) -> None:
        if self._schema in ("auto", "create"):
            await create_schema(database)
        if self._schema != "ignore":
            await verify_schema(database)

    def _started(self, what: str) -> Running:
        if self._running is None:
            raise NotRunningError(what)
        return self._running

    def _services(self, module: str) -> DatabaseServices:
        running = self._started(f"module {module!r}")
        if module not in running.of_module:
            raise SettingsError("module", module, f"this application has {', '.join(running.of_module)}")
        return running.of_module[module]

    def _known(self, subscriber_id: str) -> None:
        known = [entry.id for entry in self.registry.subscribers]
        if subscriber_id not in known:
            raise SettingsError("subscriber_id", subscriber_id, f"this application has {', '.join(known) or 'none'}")

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


def _check_arguments(
    modules: Any, contracts: Any, behaviors: Any, schema: Any, settings: Any, on_dead_letter: Any
) -> None:
    """What type checkers would find; not everybody has one."""
    if not modules:
        raise SettingsError("modules", list(modules), "give at least one Module")
    for module in modules:
        if not isinstance(module, Module):
            raise SettingsError("modules", module, f"use Module({module!r}, package=...)")
    if isinstance(contracts, str):
        raise SettingsError("contracts", contracts, f"use a list: [{contracts!r}]")
    for behavior in behaviors:
        if not (isinstance(behavior, type) and issubclass(behavior, PipelineBehavior)):
            raise SettingsError("behaviors", behavior, "list classes, subclasses of PipelineBehavior")
    if schema not in ("auto", "create", "verify", "ignore"):
        raise SettingsError("schema", schema, 'use "auto", "create", "verify" or "ignore"')
    if settings is not None and not isinstance(settings, MediatorSettings):
        raise SettingsError("settings", settings, "use MediatorSettings(...)")
    if on_dead_letter is not None and not callable(on_dead_letter):
        raise SettingsError("on_dead_letter", on_dead_letter, "use a function of a DeadLetter")


def _mapped(environment: str, environments: Mapping[str, str]) -> str:
    """The environment's name in topics, by explicit mapping, so that no two share one."""
    names: dict[str, str] = {}
    for long, short in environments.items():
        first = names.setdefault(short, long)
        if first != long:
            raise SettingsError("environments", dict(environments), f"{first!r} and {long!r} both become {short!r}")
    if environment not in environments and environment in names:
        raise SettingsError(
            "environment", environment, f"that is the short name of {names[environment]!r}: use the long one"
        )
    mapped = environments.get(environment, environment)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mapped):
        raise SettingsError(
            "environment",
            environment,
            f'use lower-case letters, digits and dashes, or map it: environments={{{environment!r}: "dev"}}',
        )
    return mapped
