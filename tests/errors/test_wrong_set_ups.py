"""Every mistake that a user can make in setting up or calling the toolkit: the class of the error, and that it says
what is wrong, where, and what to do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import ContractError, IntegrationEvent, PartitionKey, event_topic, partition_key_of
from contracts.errors import NotSimpleError, PartitionKeyError, ReservedFieldError, TopicError, UpcasterError
from contracts.upcasting import upcaster
from mediator import (
    Command,
    CommandHandler,
    DomainEvent,
    DomainEventHandler,
    IntegrationEventPublisher,
    MediatorApp,
    MediatorSettings,
    Module,
    Outgoing,
    Query,
    QueryHandler,
    RetryPolicy,
    ValidationBehavior,
    Validator,
    WiringError,
)
from mediator import errors as tree
from mediator.errors import (
    ConcurrentUseError,
    DatabaseUnavailableError,
    DomainEventOverflowError,
    EventRefusedError,
    HandlerNotFoundError,
    MediatorError,
    NotRunningError,
    OperationRefusedError,
    SchemaError,
    SettingsError,
    TransactionOwnedError,
    UnitOfWorkClosedError,
    UnitOfWorkRequiredError,
    UsageError,
    ValidationFailedError,
)
from tests.consuming.notes import NotedV1, listener, writes
from tests.support import Account, AppFactory, module_of


@dataclass(frozen=True)
class Do(Command[None]):
    """Carried out by whatever function the case gives."""

    what: Callable[..., Any]


class DoHandler(CommandHandler[Do, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Do) -> None:
        outcome = command.what(self.session)
        if asyncio.iscoroutine(outcome):
            await outcome


@dataclass(frozen=True)
class Unheard(Command[None]):
    pass


@dataclass(frozen=True)
class Checked(Command[None]):
    total: int = -1


class CheckedHandler(CommandHandler[Checked, None]):
    async def handle(self, command: Checked) -> None: ...


class TotalIsPositive(Validator[Checked]):
    def validate(self, command: Checked) -> list[str]:
        return [] if command.total > 0 else ["total: must be above 0", "total: must be paid"]


@dataclass(frozen=True)
class Look(Query[None]):
    pass


class LookHandler(QueryHandler[Look, None]):
    def __init__(self, session: AsyncSession, publisher: IntegrationEventPublisher) -> None:
        self.publisher = publisher

    async def handle(self, query: Look) -> None:
        self.publisher.publish(NotedV1())


@dataclass(frozen=True)
class Rung(DomainEvent):
    pass


@dataclass(frozen=True)
class Ring(Command[None]):
    pass


class RingHandler(CommandHandler[Ring, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Ring) -> None:
        account = Account()
        account.record_event(Rung())
        self.session.add(account)


class RingAgain(DomainEventHandler[Rung]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, event: Rung) -> None:
        account = Account()
        account.record_event(Rung())
        self.session.add(account)


class Case(NamedTuple):
    """One mistake: how it is made, its error, and what the message has to say."""

    make: Callable[..., Any]
    error: type[BaseException]
    says: tuple[str, ...]


def app(url: str = "sqlite+aiosqlite://", **options: Any) -> MediatorApp:
    return MediatorApp(
        **{
            "name": "shop",
            "modules": [module_of("bank", Do, DoHandler)],
            "database": url,
            "environment": "test",
            **options,
        }
    )


SETTINGS: dict[str, Case] = {
    "application name": Case(
        lambda: app(name="My Shop"), SettingsError, ("name = 'My Shop'", "lower-case words joined by dashes")
    ),
    "long application name": Case(lambda: app(name="s" * 41), SettingsError, ("name", "at most 40 characters")),
    "instance": Case(lambda: app(instance="#1"), SettingsError, ("instance = '#1'", "lower-case")),
    "no modules": Case(lambda: app(modules=[]), SettingsError, ("modules = []", "at least one Module")),
    "a text as module": Case(lambda: app(modules=["bank"]), SettingsError, ("modules", "'bank'", "Module(")),
    "module name": Case(lambda: Module("Bank", package="bank"), SettingsError, ("Module.name = 'Bank'", "lower-case")),
    "module package": Case(
        lambda: Module("bank", package="shop/bank"), SettingsError, ("Module.package = 'shop/bank'", "dotted name")
    ),
    "schema mode": Case(lambda: app(schema="yes"), SettingsError, ("schema = 'yes'", '"auto", "create", "verify"')),
    "environment in capitals": Case(
        lambda: app(environment="Dev"), SettingsError, ("environment = 'Dev'", "environments={'Dev': \"dev\"}")
    ),
    "two environments of one name": Case(
        lambda: app(environments={"Test": "t", "Training": "t"}),
        SettingsError,
        ("environments", "'Test' and 'Training' both become 't'"),
    ),
    "a short name that is taken": Case(
        lambda: app(environment="t", environments={"Test": "t"}), SettingsError, ("short name of 'Test'", "long one")
    ),
    "contracts as a text": Case(
        lambda: app(contracts="shop.contracts"), SettingsError, ("contracts = 'shop.contracts'", "[")
    ),
    "a class as behaviour that is none": Case(
        lambda: app(behaviors=[DoHandler]), SettingsError, ("behaviors", "DoHandler", "PipelineBehavior")
    ),
    "an instance as behaviour": Case(
        lambda: app(behaviors=[object()]), SettingsError, ("behaviors", "class", "PipelineBehavior")
    ),
    "settings as a dict": Case(lambda: app(settings={"relay": {}}), SettingsError, ("settings", "MediatorSettings(")),
    "a hook that cannot be called": Case(
        lambda: app(on_dead_letter="mail"), SettingsError, ("on_dead_letter", "'mail'")
    ),
    "another database": Case(
        lambda: app("oracle+oracledb_async://app:secret@db/shop"),
        SettingsError,
        ("database = 'oracle+oracledb_async://app:***@db/shop'", "sqlite, postgresql"),
    ),
    "a synchronous driver": Case(
        lambda: app("sqlite:///shop.db"), SettingsError, ("sqlite:///shop.db", "asyncio driver: sqlite+aiosqlite://")
    ),
    "no database URL": Case(lambda: app("shop.db"), SettingsError, ("database", "sqlite+aiosqlite:///shop.db")),
    "a module's database": Case(
        lambda: app(modules=[Module("bank", package="bank", database="mysql://x")]),
        SettingsError,
        ("mysql://x", "mysql+asyncmy://…"),
    ),
    "table prefix": Case(
        lambda: app(settings=MediatorSettings(table_prefix="my-")),
        SettingsError,
        ("table_prefix = 'my-'", "underscores"),
    ),
    "unknown setting": Case(
        lambda: MediatorSettings.model_validate({"relai": {}}), ValidationError, ("relai", "Extra inputs")
    ),
    "setting out of bounds": Case(
        lambda: MediatorSettings.model_validate({"consumer": {"prefetch": 0}}),
        ValidationError,
        ("consumer.prefetch", "greater than or equal to 1"),
    ),
    "no attempts": Case(
        lambda: RetryPolicy.exponential(attempts=0), SettingsError, ("RetryPolicy.attempts = 0", "at least 1")
    ),
    "negative delay": Case(
        lambda: RetryPolicy.fixed(3, timedelta(seconds=-1)), SettingsError, ("RetryPolicy.first_delay", "0 or more")
    ),
    "shrinking delays": Case(
        lambda: RetryPolicy(factor=0.5),
        SettingsError,
        (
            "RetryPolicy.factor = 0.5",
            "always the same delay",
        ),
    ),
    "permanent errors by name": Case(
        lambda: RetryPolicy.exponential(permanent=("KeyError",)),  # type: ignore[arg-type]
        SettingsError,
        ("RetryPolicy.permanent = 'KeyError'", "exception classes"),
    ),
}


class Keyed(IntegrationEvent):
    total: Annotated[Decimal, PartitionKey()]


def _topic(**options: Any) -> None:
    @event_topic(**{"topic": "notes", "domain": "bank", **options})
    class WrongV1(IntegrationEvent):
        pass


def _contract(annotation: Any, name: str = "total") -> None:
    type("WrongV1", (IntegrationEvent,), {"__annotations__": {name: annotation}, "__module__": __name__})


def _older(versions: tuple[str, str]) -> None:
    made = []
    for version in versions:

        @event_topic("notes", domain="bank", version=version, name="noted")
        class Versioned(IntegrationEvent):
            pass

        made.append(Versioned)
    upcaster(*made)(dict)


CONTRACTS: dict[str, Case] = {
    "topic with blanks": Case(lambda: _topic(topic="my notes"), TopicError, ("WrongV1", "topic 'my notes'", "hyphens")),
    "topic ending in a version": Case(
        lambda: _topic(topic="notes.v2"), TopicError, ("ends in a version", "version='v2'")
    ),
    "version without v": Case(lambda: _topic(version="2"), TopicError, ("version '2'", "use 'v' and a")),
    "domain of two segments": Case(
        lambda: _topic(domain="bank.retail"), TopicError, ("domain 'bank.retail'", "one segment")
    ),
    "topic on no event": Case(
        lambda: event_topic("notes", domain="bank")(dict), TopicError, ("not an integration event", "IntegrationEvent")
    ),
    "a field that is no simple value": Case(
        lambda: _contract(Account), NotSimpleError, ("WrongV1", "total", "Account")
    ),
    "a field of any type": Case(lambda: _contract(Any), NotSimpleError, ("WrongV1", "total")),
    "an own event id": Case(
        lambda: _contract(int, "event_id"), ReservedFieldError, ("event_id", "choose another name")
    ),
    "an upcaster that leads back": Case(
        lambda: _older(("v2", "v1")), UpcasterError, ("v2 is not older than v1", "from the older version")
    ),
    "a key with no canonical form": Case(
        lambda: partition_key_of(Keyed.model_construct(total=Decimal("NaN"))),
        PartitionKeyError,
        ("NaN",),
    ),
}


async def not_a_database(folder: Path) -> None:
    file = folder / "shop.db"
    file.write_text("not a database " * 100)
    await enter(app(f"sqlite+aiosqlite:///{file}"))


async def enter(one: MediatorApp) -> None:
    async with one:
        pass


STARTS: dict[str, Case] = {
    "no such folder": Case(
        lambda folder: enter(app(f"sqlite+aiosqlite:///{folder / 'nowhere' / 'shop.db'}")),
        DatabaseUnavailableError,
        ("nowhere", "there is no folder", "Make it first"),
    ),
    "a folder as database": Case(
        lambda folder: enter(app(f"sqlite+aiosqlite:///{folder}")),
        DatabaseUnavailableError,
        ("cannot be used", "Check the path"),
    ),
    "a file that is no database": Case(
        not_a_database,
        DatabaseUnavailableError,
        ("shop.db", "cannot be used", "file is not a database"),
    ),
    "no tables": Case(
        lambda folder: enter(app(f"sqlite+aiosqlite:///{folder / 'shop.db'}", schema="verify")),
        SchemaError,
        ("shop.db", "missing: table mediator_", 'schema="create"'),
    ),
    "unknown transport": Case(
        lambda folder: enter(app(f"sqlite+aiosqlite:///{folder / 'shop.db'}", transport="mqtt://user:secret@host")),
        SettingsError,
        ("transport = 'mqtt://…'", "memory://"),
    ),
    "no such package": Case(
        lambda folder: enter(app(modules=[Module("bank", package="no_such_package")])),
        WiringError,
        ("module 'bank'", "importing no_such_package failed", "name of the package"),
    ),
}


def in_command(what: Callable[..., Any]) -> Callable[[MediatorApp], Awaitable[None]]:
    async def make(one: MediatorApp) -> None:
        await one.mediator.send(Do(what))

    return make


async def publish(one: MediatorApp, *events: Any) -> None:
    await one.publish_in_own_transaction(*events)


async def in_unit_of_work(one: MediatorApp, call: Callable[[Any], Awaitable[Any]]) -> None:
    async with one.unit_of_work() as uow:
        await call(uow)


async def cancel_its_own(one: MediatorApp) -> None:
    async with one.unit_of_work() as uow:
        event = NotedV1()
        uow.publish(event)
        await uow.cancel(event.event_id)


async def keep_publishing(one: MediatorApp) -> None:
    async with one.unit_of_work() as uow:
        pass
    uow.publish(NotedV1())


async def share(one: MediatorApp) -> None:
    async with one.unit_of_work() as uow:
        connection = await uow.session.connection()
        await connection.execute(text("SELECT 1"))
        uow.session.add(Account())
        await asyncio.create_task(uow.session.flush(), name="intruder")


async def publish_twice_removed(one: MediatorApp) -> None:
    async with one.unit_of_work():
        await one.publish_in_own_transaction(NotedV1())


async def answers(one: MediatorApp) -> None:
    stream: AsyncIterator[Any] = one.mediator.stream(Look())  # type: ignore[arg-type]
    await anext(stream)


class BigV1(NotedV1):
    """No topic of its own."""


CALLS: dict[str, Case] = {
    "a command that nobody handles": Case(
        lambda one: one.mediator.send(Unheard()),
        HandlerNotFoundError,
        ("Unheard", "write a class that subclasses", "below the package of a module"),
    ),
    "no command at all": Case(lambda one: one.mediator.send("open"), HandlerNotFoundError, ("builtins.str",)),
    "the class instead of an instance": Case(
        lambda one: one.mediator.send(Unheard), HandlerNotFoundError, ("Unheard", "instance")
    ),
    "a query as stream": Case(answers, HandlerNotFoundError, ("StreamQueryHandler", "Look")),
    "an invalid command": Case(
        lambda one: one.mediator.send(Checked()),
        ValidationFailedError,
        ("Checked is not valid", "total: must be above 0; total: must be paid"),
    ),
    "publishing from a query": Case(
        lambda one: one.mediator.send(Look()),
        UnitOfWorkRequiredError,
        ("publishing from a query needs", "unit_of_work("),
    ),
    "a handler that commits": Case(
        in_command(lambda session: session.commit()), TransactionOwnedError, ("session.commit()", "uow.savepoint()")
    ),
    "a handler that rolls back": Case(
        in_command(lambda session: session.rollback()), TransactionOwnedError, ("session.rollback()", "Remove the call")
    ),
    "two tasks in one unit of work": Case(share, ConcurrentUseError, ("'intruder'", "a unit of work of its own")),
    "publishing after the end": Case(
        keep_publishing, UnitOfWorkClosedError, ("publishing NotedV1", "before the block or the handler returns")
    ),
    "a transaction of its own inside another": Case(
        publish_twice_removed, UsageError, ("publish_in_own_transaction()", "use the publisher of the unit of work")
    ),
    "publishing a domain object": Case(
        lambda one: publish(one, Account()), EventRefusedError, ("Account", "no IntegrationEvent", "converters")
    ),
    "publishing an event without topic": Case(
        lambda one: publish(one, BigV1()), EventRefusedError, ("BigV1", "states no topic", "@event_topic")
    ),
    "an event that is too large": Case(
        lambda one: publish(one, NotedV1(text="x" * 300_000)),
        EventRefusedError,
        ("NotedV1", "too large", "at most 262144", "Publish less"),
    ),
    "a NUL in a text": Case(
        lambda one: publish(one, NotedV1(text="a\0b")), EventRefusedError, ("NotedV1", "at text", "NUL")
    ),
    "a reserved header": Case(
        lambda one: publish(one, Outgoing(NotedV1(), headers={"ce-id": "1"})),
        EventRefusedError,
        ("header 'ce-id' is reserved", "lower-case name of your own"),
    ),
    "a header in capitals": Case(
        lambda one: publish(one, Outgoing(NotedV1(), headers={"Tenant": "1"})),
        EventRefusedError,
        ("'Tenant'", "lower-case"),
    ),
    "a header that is no text": Case(
        lambda one: publish(one, Outgoing(NotedV1(), headers={"tenant": 1})),  # type: ignore[dict-item]
        EventRefusedError,
        ("header 'tenant'", "int, not text"),
    ),
    "a line break in a header": Case(
        lambda one: publish(one, Outgoing(NotedV1(), headers={"tenant": "a\r\nb"})),
        EventRefusedError,
        ("header 'tenant'", "control characters"),
    ),
    "a key that is too long": Case(
        lambda one: publish(one, Outgoing(NotedV1(), key="k" * 201)),
        EventRefusedError,
        ("partition key has 201", "200"),
    ),
    "an empty topic": Case(
        lambda one: publish(one, Outgoing(NotedV1(), topic="")), EventRefusedError, ("topic ''", "printable ASCII")
    ),
    "a delay that is no duration": Case(
        lambda one: publish(one, Outgoing(NotedV1(), delay=5)),  # type: ignore[arg-type]
        EventRefusedError,
        ("NotedV1", "delay", "timedelta"),
    ),
    "a time without a zone": Case(
        lambda one: publish(one, Outgoing(NotedV1(), at=datetime.now(UTC).replace(tzinfo=None))),
        EventRefusedError,
        ("NotedV1", "its time is datetime", "with a zone"),
    ),
    "cancelling by something else than an id": Case(
        lambda one: in_unit_of_work(one, lambda uow: uow.cancel("it")), UsageError, ("cancel('it')", "use the event_id")
    ),
    "cancelling what is not committed yet": Case(
        cancel_its_own, UsageError, ("this unit of work itself publishes the event", "Do not publish it")
    ),
    "another time that is none": Case(
        lambda one: in_unit_of_work(one, lambda uow: uow.reschedule(UUID(int=0))),
        UsageError,
        (f"reschedule({UUID(int=0)})", "delay=... or at=..."),
    ),
    "a correlation id that is too long": Case(
        lambda one: one.mediator.send(Do(print), correlation_id="c" * 201),
        EventRefusedError,
        ("Do", "correlation id", "200"),
    ),
    "an unknown module": Case(
        lambda one: publish_from(one, "till"), SettingsError, ("module = 'till'", "this application has bank")
    ),
    "pausing an unknown handler": Case(
        lambda one: sure(one.pause, "bank.sent"), SettingsError, ("name = 'bank.sent'", "bank.send")
    ),
    "replaying what is not there": Case(
        lambda one: one.dead_letters.replay(7), OperationRefusedError, ("replay of dead letter 7", "list them again")
    ),
    "editing while it is switched off": Case(
        lambda one: one.dead_letters.edit_and_replay(7, {}, reason="typo"),
        OperationRefusedError,
        ("edit and replay of dead letter 7", "switched off", "allow_edited_replay=True"),
    ),
    "starting twice": Case(enter, UsageError, ("'shop' is running already", "leave its block")),
    "recording something else than a domain event": Case(
        lambda one: sure(Account().record_event, NotedV1()),
        TypeError,
        ("Account.record_event got NotedV1", "converter"),
    ),
    "domain events without end": Case(
        lambda one: one.mediator.send(Ring()),
        DomainEventOverflowError,
        ("depth of 16", "Rung -> Rung", "leads back to itself"),
    ),
}


async def sure(call: Callable[..., Any], *arguments: Any) -> None:
    call(*arguments)


async def publish_from(one: MediatorApp, module: str) -> None:
    await one.publish_in_own_transaction(NotedV1(), module=module)


def assert_says(error: BaseException, case: Case) -> None:
    assert type(error) is case.error, f"{type(error).__name__}: {error}"
    message = str(error)
    for part in case.says:
        assert part in message, message
    assert "secret" not in message


@pytest.mark.parametrize("name", [*SETTINGS, *CONTRACTS])
def test_what_is_wrong_when_it_is_written_down(name: str) -> None:
    case = {**SETTINGS, **CONTRACTS}[name]

    with pytest.raises(case.error) as caught:
        case.make()

    assert_says(caught.value, case)


@pytest.mark.parametrize("name", STARTS)
async def test_what_is_wrong_at_the_start(name: str, tmp_path: Path) -> None:
    case = STARTS[name]

    with pytest.raises(case.error) as caught:
        await case.make(tmp_path)

    assert_says(caught.value, case)


@pytest.mark.parametrize("name", CALLS)
async def test_what_is_wrong_with_a_call(name: str, make_app: AppFactory) -> None:
    case = CALLS[name]
    modules = [
        module_of(
            "bank",
            *(Do, DoHandler, Checked, CheckedHandler, TotalIsPositive, Look, LookHandler, Ring, RingHandler, RingAgain),
            listener("Send", writes),
        )
    ]

    async with make_app(*modules, behaviors=[ValidationBehavior]) as one:
        with pytest.raises(case.error) as caught:
            await case.make(one)
        assert_says(caught.value, case)

        # The application is none the worse for it.
        await one.publish_in_own_transaction(NotedV1(text="after"))
        await one.drained()
        assert one.counters.total("handled") == 1


@pytest.mark.parametrize("call", ["transport", "dead_letters"])
def test_what_needs_a_running_application_says_so(call: str) -> None:
    with pytest.raises(NotRunningError, match=r"needs a running application: call it inside `async with app:`"):
        getattr(app(), call)


def test_the_errors_are_one_tree_and_told_apart() -> None:
    errors = {case.error for case in {**SETTINGS, **STARTS, **CALLS}.values()} - {ValidationError, TypeError}
    contract_errors = {case.error for case in CONTRACTS.values()}

    assert all(issubclass(error, MediatorError) for error in errors)
    assert all(issubclass(error, ContractError) for error in contract_errors)
    assert not any(issubclass(error, ValueError) for error in errors | contract_errors)


def test_every_error_of_the_tree_is_drawn_and_exported() -> None:
    defined = {
        name
        for name, value in vars(tree).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == tree.__name__
    }

    assert tree.__doc__ is not None
    assert defined == set(tree.__all__) - {"Fault"}
    assert set(re.findall(r"\b[A-Z]\w*Error\b", tree.__doc__.partition("An error carries")[0])) == defined
