"""Domain events go to handlers by their runtime type, in a stable order, in the transaction that recorded them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    AggregateRoot,
    Command,
    CommandHandler,
    DomainEvent,
    DomainEventHandler,
    Mediator,
    MediatorApp,
    UnitOfWork,
)
from mediator.errors import DomainEventOverflowError
from mediator.publishing.unit_of_work import MAX_DEPTH, MAX_EVENTS
from tests.publishing.bank import Do, Happened, HappenedConverter, Special, facts
from tests.support import Account, AppFactory, Effect, effects, module_of


@dataclass(frozen=True)
class Unrelated(DomainEvent):
    pass


class Journal(AggregateRoot):
    """Records what it is told to."""


async def record(app: MediatorApp, *events: DomainEvent) -> None:
    async with app.unit_of_work() as uow:
        journal = Journal()
        uow.track(journal)
        for event in events:
            journal.record_event(event)


def handler_of(kind: type[Any], name: str, react: Callable[[Any], None]) -> type[Any]:
    class Handler(DomainEventHandler[kind]):  # type: ignore[valid-type]
        async def handle(self, event: Any) -> None:
            react(event)

    Handler.__name__ = Handler.__qualname__ = name
    return Handler


async def test_handlers_of_the_type_and_of_its_bases_get_it(make_app: AppFactory) -> None:
    calls: list[str] = []

    def of(kind: type[DomainEvent]) -> type[Any]:
        return handler_of(kind, kind.__name__, lambda _event: calls.append(kind.__name__))

    handlers = [of(kind) for kind in (DomainEvent, Special, Unrelated, Happened)]
    async with make_app(module_of("bank", *handlers)) as app:
        await record(app, Special("it"))
        assert calls == ["DomainEvent", "Special", "Happened"]

        calls.clear()
        await record(app, Happened("it"))
        assert calls == ["DomainEvent", "Happened"]


async def test_handlers_run_in_the_order_of_modules_and_definitions(make_app: AppFactory) -> None:
    calls: list[str] = []

    def named(name: str) -> type[Any]:
        return handler_of(Happened, name, lambda _event: calls.append(name))

    modules = module_of("zoo", named("Second"), named("First")), module_of("ark", named("Zebra"), named("Ant"))
    async with make_app(*modules) as app:
        for _ in range(3):
            await record(app, Happened())

    assert calls == ["Second", "First", "Zebra", "Ant"] * 3


async def test_each_event_is_finished_before_the_next_begins(make_app: AppFactory) -> None:
    calls: list[str] = []
    first = handler_of(Happened, "First", lambda event: calls.append(f"first {event.what}"))
    second = handler_of(Happened, "Second", lambda event: calls.append(f"second {event.what}"))
    async with make_app(module_of("bank", first, second)) as app:
        await record(app, Happened("a"), Happened("b"))

    assert calls == ["first a", "second a", "first b", "second b"]


async def test_handlers_may_raise_further_events_until_none_is_left(make_app: AppFactory, database_url: str) -> None:
    class CountDown(DomainEventHandler[Happened]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: Happened) -> None:
            if left := int(event.what):
                account = Account(owner=event.what)
                account.record_event(Happened(str(left - 1)))
                self.session.add(account)

    async with make_app(module_of("bank", CountDown, HappenedConverter)) as app:
        await record(app, Happened("3"), Happened("1"))

        assert await facts(app, database_url) == ["3", "1", "2", "0", "1", "0"]
        async with app.unit_of_work() as uow:
            assert len((await uow.session.exec(select(Account))).all()) == 4


async def test_what_handlers_change_directly_is_saved(make_app: AppFactory) -> None:
    class Credit(DomainEventHandler[Happened]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: Happened) -> None:
            for account in (await self.session.exec(select(Account))).all():
                account.balance += 10

    async with make_app(module_of("bank", Credit)) as app:
        async with app.unit_of_work() as uow:
            account = Account(balance=1)
            account.record_event(Happened())
            uow.session.add(account)

        async with app.unit_of_work() as uow:
            assert (await uow.session.exec(select(Account.balance))).all() == [11]


async def test_handlers_see_what_is_not_committed_yet(make_app: AppFactory) -> None:
    class Look(DomainEventHandler[Happened]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: Happened) -> None:
            owners = (await self.session.exec(select(Account.owner))).all()
            self.session.add(Effect(what="seen", detail=",".join(owners)))

    async with make_app(module_of("bank", Look)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            account.record_event(Happened())
            uow.session.add(account)

        assert await effects(app) == [("seen", "Ada")]


async def test_a_failing_handler_rolls_everything_back(make_app: AppFactory, database_url: str) -> None:
    class Fail(DomainEventHandler[Special]):
        async def handle(self, event: Special) -> None:
            raise ValueError("no")

    async with make_app(module_of("bank", Fail, HappenedConverter)) as app:
        with pytest.raises(ValueError, match="no"):  # noqa: PT012
            async with app.unit_of_work() as uow:
                account = Account()
                uow.session.add(account)
                account.record_event(Happened("first"))
                account.record_event(Special("second"))

        assert await facts(app, database_url) == []
        async with app.unit_of_work() as uow:
            assert (await uow.session.exec(select(Account))).all() == []
        assert account.recorded_events == ()


async def test_a_flush_that_fails_rolls_everything_back(make_app: AppFactory, database_url: str) -> None:
    class Duplicate(DomainEventHandler[Happened]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: Happened) -> None:
            self.session.add_all([Effect(id=1, what="one"), Effect(id=1, what="two")])

    async with make_app(module_of("bank", Duplicate, HappenedConverter)) as app:
        with pytest.raises(IntegrityError):
            await record(app, Happened("it"))

        assert await facts(app, database_url) == []
        assert await effects(app) == []


async def test_a_plain_handler_works_with_a_plain_session(make_app: AppFactory) -> None:
    class Synchronous(DomainEventHandler[Happened]):
        def __init__(self, session: Session) -> None:
            self.session = session

        def handle(self, event: Happened) -> None:
            self.session.add(Effect(what=event.what))
            self.session.flush()

    async with make_app(module_of("bank", Synchronous)) as app:
        await record(app, Happened("synchronous"))

        assert await effects(app) == [("synchronous", "")]


async def test_handlers_of_another_module_share_the_transaction(make_app: AppFactory) -> None:
    class Elsewhere(DomainEventHandler[Happened]):
        def __init__(self, session: AsyncSession, uow: UnitOfWork) -> None:
            assert uow.session is session
            self.session = session

        async def handle(self, event: Happened) -> None:
            self.session.add(Effect(what="elsewhere"))

    async with make_app(module_of("bank"), module_of("mail", Elsewhere)) as app:
        with pytest.raises(ValueError, match="late"):  # noqa: PT012
            async with app.unit_of_work("bank") as uow:
                journal = Journal()
                journal.record_event(Happened())
                uow.track(journal)
                await uow.dispatch_events()
                raise ValueError("late")

        assert await effects(app) == []


class Chain(DomainEventHandler[Happened]):
    """Leads from `n` to `n - 1`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self.uow = uow

    async def handle(self, event: Happened) -> None:
        if left := int(event.what):
            journal = Journal()
            journal.record_event(Happened(str(left - 1)))
            self.uow.track(journal)


async def test_sixteen_events_may_lead_to_one_another(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", Chain, HappenedConverter)) as app:
        await record(app, Happened(str(MAX_DEPTH - 1)))

        assert len(await facts(app, database_url)) == 16


async def test_a_longer_chain_is_refused_with_its_names(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", Chain, HappenedConverter)) as app:
        with pytest.raises(
            DomainEventOverflowError, match=r"depth of 16 .* Special -> Happened -> Happened"
        ) as refused:
            await record(app, Special(str(MAX_DEPTH)))

        assert refused.value.chain == ("Special", *["Happened"] * 16)
        assert (refused.value.limit, refused.value.bound) == ("depth", 16)
        assert await facts(app, database_url) == []


async def test_a_thousand_events_are_possible_and_one_more_is_refused(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        await record(app, *[Happened(str(number)) for number in range(MAX_EVENTS)])
        assert len(await facts(app, database_url)) == 1_000

        with pytest.raises(DomainEventOverflowError, match="number of 1000 for one unit of work") as refused:
            await record(app, *[Happened()] * MAX_EVENTS, Special())

        assert refused.value.chain == ("Special",)
        assert len(await facts(app, database_url)) == 1_000


async def test_the_bounds_hold_over_nested_commands(make_app: AppFactory, database_url: str) -> None:
    @dataclass(frozen=True)
    class Inner(Command[None]):
        what: str

    class InnerHandler(CommandHandler[Inner, None]):
        def __init__(self, uow: UnitOfWork) -> None:
            self.uow = uow

        async def handle(self, command: Inner) -> None:
            journal = Journal()
            journal.record_event(Happened(command.what))
            self.uow.track(journal)

    class Again(DomainEventHandler[Happened]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, event: Happened) -> None:
            await self.mediator.send(Inner(event.what))

    async with make_app(module_of("bank", InnerHandler, Again, HappenedConverter)) as app:
        with pytest.raises(DomainEventOverflowError, match="depth of 16") as refused:
            await app.mediator.send(Inner("round"))

        assert refused.value.chain == ("Happened",) * 17
        assert await facts(app, database_url) == []


async def test_the_count_holds_over_nested_commands(make_app: AppFactory, database_url: str) -> None:
    class Many(CommandHandler[Do, Any]):
        def __init__(self, uow: UnitOfWork, mediator: Mediator) -> None:
            self.uow, self.mediator = uow, mediator

        async def handle(self, command: Do) -> None:
            journal = Journal()
            self.uow.track(journal)
            for _ in range(400):
                journal.record_event(Happened())
            if command.what:
                await self.mediator.send(Do(command.what[1:]))

    async with make_app(module_of("bank", Many, HappenedConverter)) as app:
        await app.mediator.send(Do("x"))
        assert len(await facts(app, database_url)) == 800

        with pytest.raises(DomainEventOverflowError, match="number of 1000"):
            await app.mediator.send(Do("xx"))
        assert len(await facts(app, database_url)) == 800
