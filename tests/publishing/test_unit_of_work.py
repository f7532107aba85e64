"""A unit of work commits on success only, belongs to one task, and is ended by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    Command,
    CommandHandler,
    DomainEventHandler,
    IntegrationEventPublisher,
    Mediator,
    MediatorApp,
    UnitOfWork,
)
from mediator.errors import (
    ConcurrentUseError,
    MediatorError,
    NotRunningError,
    TransactionOwnedError,
    UnitOfWorkClosedError,
    UsageError,
)
from mediator.publishing.unit_of_work import SqlUnitOfWork, current_unit_of_work
from tests.publishing.bank import Do, FactV1, Happened, HappenedConverter, facts
from tests.storage.rows import end_session, session_of, stored
from tests.support import Account, AppFactory, Effect, create_tables, effects, module_of


async def accounts(app: MediatorApp) -> list[str]:
    async with app.unit_of_work() as uow:
        return sorted((await uow.session.exec(select(Account.owner))).all())


async def test_business_rows_and_events_commit_together(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        async with app.unit_of_work() as uow:
            uow.session.add(Account(owner="Ada"))
            uow.publish(FactV1(what="by hand"))
            assert await facts_without_waiting(database_url) == 0

        assert await facts(app, database_url) == ["by hand"]
        assert await accounts(app) == ["Ada"]


async def facts_without_waiting(url: str) -> int:
    return len(await stored(url, "outbox")) + len(await stored(url, "sent"))


async def test_an_error_rolls_both_back(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        with pytest.raises(KeyError):  # noqa: PT012
            async with app.unit_of_work() as uow:
                account = Account(owner="Ada")
                account.record_event(Happened("never"))
                uow.session.add(account)
                await uow.session.flush()
                uow.publish(FactV1(what="never"))
                raise KeyError

        assert await facts(app, database_url) == []
        assert await accounts(app) == []


async def test_events_of_a_rolled_back_unit_of_work_do_not_appear_in_the_next(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        account = Account(owner="Ada")
        with pytest.raises(KeyError):  # noqa: PT012
            async with app.unit_of_work() as uow:
                account.record_event(Happened("never"))
                uow.session.add(account)
                raise KeyError
        async with app.unit_of_work() as uow:
            account.record_event(Happened("now"))
            uow.session.add(account)

        assert await facts(app, database_url) == ["now"]


async def test_a_unit_of_work_inside_another_joins_it(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        with pytest.raises(KeyError):  # noqa: PT012
            async with app.unit_of_work() as outer:
                async with app.unit_of_work() as inner:
                    assert inner is outer
                    inner.publish(FactV1(what="never"))
                assert outer.is_open
                raise KeyError

        assert await facts(app, database_url) == []


async def test_a_unit_of_work_that_did_nothing_leaves_nothing(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        async with app.unit_of_work():
            pass

        assert await facts(app, database_url) == []
        assert current_unit_of_work() is None


@pytest.mark.parametrize("call", ["commit", "rollback", "close", "invalidate", "reset"])
async def test_a_handler_cannot_end_the_transaction(make_app: AppFactory, call: str) -> None:
    class End(CommandHandler[Do, Any]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, command: Do) -> None:
            self.session.add(Account(owner="Ada"))
            await self.session.flush()
            await getattr(self.session, call)()

    async with make_app(module_of("bank", End)) as app:
        with pytest.raises(TransactionOwnedError, match=rf"session\.{call}\(\) inside a unit of work") as refused:
            await app.mediator.send(Do())

        assert refused.value.call == call
        assert await accounts(app) == []


async def by_begin(session: AsyncSession) -> None:
    async with session.begin():
        session.add(Account(owner="Ada"))


async def by_begin_and_commit(session: AsyncSession) -> None:
    transaction = await session.begin()
    session.add(Account(owner="Ada"))
    await transaction.commit()


async def by_the_transaction(session: AsyncSession) -> None:
    session.add(Account(owner="Ada"))
    await session.flush()
    transaction = session.get_transaction()
    assert transaction is not None
    await transaction.commit()


async def by_the_connection(session: AsyncSession) -> None:
    session.add(Account(owner="Ada"))
    await session.flush()
    await (await session.connection()).commit()


async def by_the_session_block(session: AsyncSession) -> None:
    async with session:
        session.add(Account(owner="Ada"))
        await session.flush()


async def by_committing_within_a_savepoint(session: AsyncSession) -> None:
    async with session.begin_nested():
        session.add(Account(owner="Ada"))
        await session.commit()


@pytest.mark.parametrize(
    "commit",
    [
        by_begin,
        by_begin_and_commit,
        by_the_transaction,
        by_the_connection,
        by_the_session_block,
        by_committing_within_a_savepoint,
    ],
)
async def test_there_is_no_other_way_to_commit(
    make_app: AppFactory, commit: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    async with make_app(module_of("bank")) as app:
        with pytest.raises(MediatorError):
            async with app.unit_of_work() as uow:
                await commit(uow.session)

        assert await accounts(app) == []


async def in_gather(session: AsyncSession) -> None:
    await asyncio.gather(session.exec(select(Account)), session.exec(select(Account)))


async def in_a_task(session: AsyncSession) -> None:
    await session.exec(select(Account))
    await asyncio.create_task(session.exec(select(Account)))


async def by_get_in_a_task(session: AsyncSession) -> None:
    await asyncio.create_task(session.get(Account, 1))


async def by_text_in_a_task(session: AsyncSession) -> None:
    await asyncio.create_task(session.scalars(text("SELECT 1")))


async def by_flush_in_a_task(session: AsyncSession) -> None:
    session.add(Account())
    await asyncio.create_task(session.flush())


async def in_a_task_group(session: AsyncSession) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(session.exec(select(Account)))
            group.create_task(session.exec(select(Account)))
    except* ConcurrentUseError as refused:
        raise refused.exceptions[0] from None


@pytest.mark.parametrize(
    "use", [in_gather, in_a_task, by_get_in_a_task, by_text_in_a_task, by_flush_in_a_task, in_a_task_group]
)
async def test_a_second_task_is_refused(make_app: AppFactory, use: Callable[[AsyncSession], Awaitable[None]]) -> None:
    class Use(CommandHandler[Do, Any]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, command: Do) -> None:
            await use(self.session)

    async with make_app(module_of("bank", Use)) as app:
        with pytest.raises(ConcurrentUseError, match="serves one task at a time"):
            await app.mediator.send(Do())


async def test_a_nested_send_in_another_task_is_refused(make_app: AppFactory) -> None:
    class Outer(CommandHandler[Do, Any]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, command: Do) -> None:
            if command.what:
                await asyncio.gather(self.mediator.send(Do()), self.mediator.send(Do()))

    async with make_app(module_of("bank", Outer)) as app:
        with pytest.raises(ConcurrentUseError):
            await app.mediator.send(Do("twice"))


async def test_publishing_in_another_task_is_refused(make_app: AppFactory, database_url: str) -> None:
    # It may come too late for the commit and be lost in silence.
    async with make_app(module_of("bank")) as app:
        with pytest.raises(ConcurrentUseError):  # noqa: PT012
            async with app.unit_of_work() as uow:

                async def publish() -> None:
                    uow.publish(FactV1(what="aside"))

                await asyncio.create_task(publish())

        assert await facts(app, database_url) == []


async def test_a_task_that_outlives_its_unit_of_work_gets_one_of_its_own(
    make_app: AppFactory, database_url: str
) -> None:
    tasks: list[asyncio.Task[None]] = []
    committed = asyncio.Event()

    class Later(CommandHandler[Do, Any]):
        def __init__(self, mediator: Mediator, publisher: IntegrationEventPublisher) -> None:
            self.mediator, self.publisher = mediator, publisher

        async def handle(self, command: Do) -> None:
            if command.what == "later":
                self.publisher.publish(FactV1(what="later"))
            else:
                tasks.append(asyncio.create_task(self.later()))

        async def later(self) -> None:
            await committed.wait()
            await self.mediator.send(Do("later"))

    async with make_app(module_of("bank", Later)) as app:
        await app.mediator.send(Do())
        committed.set()
        await tasks[0]

        assert await facts(app, database_url) == ["later"]


async def test_publishing_after_the_end_is_an_error(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        async with app.unit_of_work() as uow:
            pass
        with pytest.raises(UnitOfWorkClosedError, match="publishing FactV1: this unit of work has ended"):
            uow.publish(FactV1(what="late"))

        assert await facts(app, database_url) == []


@pytest.mark.parametrize("use", ["read", "write", "flush", "commit", "connection"])
async def test_the_session_of_an_ended_unit_of_work_is_of_no_use(make_app: AppFactory, use: str) -> None:
    # Otherwise it begins a transaction that nobody ends, and holds the only connection that may write.
    async with make_app(module_of("bank")) as app:
        async with app.unit_of_work() as uow:
            session = uow.session

        with pytest.raises(UnitOfWorkClosedError):  # noqa: PT012
            match use:
                case "read":
                    await session.exec(select(Account))
                case "connection":
                    await session.connection()
                case _:
                    session.add(Account(owner="late"))
                    await (session.commit() if use == "commit" else session.flush())
        assert await accounts(app) == []


async def test_publishing_in_a_transaction_of_its_own_has_a_name_of_its_own(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank")) as app:
        await app.publish_in_own_transaction(FactV1(what="one"), FactV1(what="two"))
        with pytest.raises(UsageError, match="inside a unit of work"):
            async with app.unit_of_work():
                await app.publish_in_own_transaction(FactV1(what="never"))

        assert await facts(app, database_url) == ["one", "two"]


async def test_there_is_no_unit_of_work_while_the_application_does_not_run(make_app: AppFactory) -> None:
    app = make_app(module_of("bank"))
    with pytest.raises(NotRunningError):
        async with app.unit_of_work():
            raise AssertionError
    with pytest.raises(NotRunningError):
        await app.publish_in_own_transaction(FactV1(what="never"))


async def test_a_handler_publishes_by_hand(make_app: AppFactory, database_url: str) -> None:
    class Announce(DomainEventHandler[Happened]):
        def __init__(self, publisher: IntegrationEventPublisher) -> None:
            self.publisher = publisher

        async def handle(self, event: Happened) -> None:
            self.publisher.publish(FactV1(what=f"{event.what} 1"), FactV1(what=f"{event.what} 2"))

    async with make_app(module_of("bank", Announce)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            account.record_event(Happened("it"))
            uow.session.add(account)

        assert await facts(app, database_url) == ["it 1", "it 2"]


async def test_everything_injected_in_one_unit_of_work_is_of_it(make_app: AppFactory) -> None:
    seen: list[tuple[Any, ...]] = []

    class Look(CommandHandler[Do, Any]):
        def __init__(
            self, session: AsyncSession, uow: UnitOfWork, publisher: IntegrationEventPublisher, mediator: Mediator
        ) -> None:
            self.mediator = mediator
            seen.append((session, uow, publisher))

        async def handle(self, command: Do) -> None:
            if command.what:
                await self.mediator.send(Do())

    async with make_app(module_of("bank", Look)) as app:
        await app.mediator.send(Do("nested"))
        await app.mediator.send(Do())

    (outer, inner, other) = seen
    assert outer == inner
    assert outer[0] is outer[1].session
    assert outer[1] is outer[2]
    assert other[0] is not outer[0]


async def test_units_of_work_of_two_tasks_are_two_transactions(make_app: AppFactory) -> None:
    async with make_app(module_of("bank")) as app:

        async def work(owner: str, *, fail: bool) -> None:
            async with app.unit_of_work() as uow:
                uow.session.add(Account(owner=owner))
                if fail:
                    raise KeyError(owner)

        results = await asyncio.gather(
            *(work(f"{number}", fail=number % 2 == 0) for number in range(10)), return_exceptions=True
        )

        assert sum(isinstance(result, KeyError) for result in results) == 5
        assert await accounts(app) == ["1", "3", "5", "7", "9"]


async def test_a_module_with_another_database_is_not_joined_in_silence(
    make_app: AppFactory, database_url: str, tmp_path: Any
) -> None:
    other_url = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    await create_tables(other_url)

    @dataclass(frozen=True)
    class Elsewhere(Command[None]):
        pass

    class ElsewhereHandler(CommandHandler[Elsewhere, None]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, command: Elsewhere) -> None:
            self.session.add(Effect(what="elsewhere"))

    class Outer(CommandHandler[Do, Any]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, command: Do) -> None:
            await self.mediator.send(Elsewhere())

    app = make_app(module_of("bank", Outer), module_of("mail", ElsewhereHandler, database=other_url))
    async with app:
        with pytest.raises(UsageError, match="module 'mail'"):
            await app.mediator.send(Do())
        await app.drained(timedelta(seconds=20))

        assert await effects(app, "bank") == []
        assert await effects(app, "mail") == []


def test_the_unit_of_work_is_what_use_cases_see_as_one() -> None:
    uow: type[UnitOfWork] = SqlUnitOfWork
    publisher: type[IntegrationEventPublisher] = SqlUnitOfWork

    assert uow is publisher


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
async def test_what_went_wrong_in_it_is_told_and_not_that_it_could_not_be_closed(
    make_app: AppFactory, database_url: str
) -> None:
    async def cut_off_and_failing(uow: SqlUnitOfWork) -> None:
        uow.session.add(Account(owner="ann"))
        await uow.session.flush()
        end_session(database_url, await session_of(await uow.session.connection()))
        raise ValueError("the body")

    async with make_app(module_of("bank")) as app:
        with pytest.raises(ValueError, match="the body"):
            async with app.unit_of_work() as uow:
                await cut_off_and_failing(uow)
        assert await accounts(app) == []
