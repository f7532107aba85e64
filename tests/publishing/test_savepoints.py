"""What was recorded and published within a savepoint goes with it; what was before it, or comes after, stays."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import AggregateRoot, DomainEventHandler, UnitOfWork
from mediator.publishing.unit_of_work import SqlUnitOfWork
from tests.publishing.bank import FactV1, Happened, HappenedConverter, facts
from tests.support import Account, AppFactory, Effect, effects, module_of


class Plain(AggregateRoot):
    pass


class RefusedError(Exception):
    pass


SetSavepoint = Callable[[SqlUnitOfWork], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["uow.savepoint", "session.begin_nested"])
def savepoint(request: pytest.FixtureRequest) -> SetSavepoint:
    if request.param == "uow.savepoint":
        return lambda uow: uow.savepoint()
    return lambda uow: uow.session.begin_nested()


async def test_events_within_it_go_with_it(make_app: AppFactory, database_url: str, savepoint: SetSavepoint) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            uow.session.add(account)
            account.record_event(Happened("before"))
            uow.publish(FactV1(what="published before"))
            with suppress(RefusedError):
                async with savepoint(uow):
                    account.record_event(Happened("within"))
                    uow.publish(FactV1(what="published within"))
                    uow.session.add(Effect(what="within"))
                    raise RefusedError
            account.record_event(Happened("after"))
            uow.publish(FactV1(what="published after"))

        assert sorted(await facts(app, database_url)) == ["after", "before", "published after", "published before"]
        assert await effects(app) == []


async def test_a_savepoint_that_succeeds_changes_nothing(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            async with savepoint(uow):
                account = Account(owner="Ada")
                uow.session.add(account)
                account.record_event(Happened("within"))
            account.record_event(Happened("after"))

        assert await facts(app, database_url) == ["within", "after"]


async def test_an_aggregate_that_left_with_it_may_be_added_again(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            with suppress(RefusedError):
                async with savepoint(uow):
                    uow.session.add(account)
                    account.record_event(Happened("within"))
                    raise RefusedError
            account.record_event(Happened("after"))
            uow.session.add(account)

        assert await facts(app, database_url) == ["after"]
        async with app.unit_of_work() as uow:
            assert (await uow.session.exec(select(Account.owner))).all() == ["Ada"]


async def test_an_aggregate_that_left_with_it_and_stays_away_says_nothing(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            account.record_event(Happened("before it was added"))
            with suppress(RefusedError):
                async with savepoint(uow):
                    uow.session.add(account)
                    await uow.session.flush()
                    raise RefusedError
            account.record_event(Happened("not in the database"))

        assert await facts(app, database_url) == []


async def test_what_an_aggregate_recorded_before_it_was_added_within_comes_when_it_is_added_again(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            account.record_event(Happened("before"))
            with suppress(RefusedError):
                async with savepoint(uow):
                    uow.session.add(account)
                    raise RefusedError
            uow.session.add(account)

        assert await facts(app, database_url) == ["before"]


async def test_an_aggregate_loaded_within_it_may_record_after_it(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            uow.session.add(Account(owner="Ada"))
        async with app.unit_of_work() as uow:
            with suppress(RefusedError):
                async with savepoint(uow):
                    account = (await uow.session.exec(select(Account))).one()
                    account.record_event(Happened("within"))
                    raise RefusedError
            await uow.session.refresh(account)
            account.record_event(Happened("after"))

        assert await facts(app, database_url) == ["after"]


async def test_an_aggregate_that_a_rolled_back_savepoint_expired_still_publishes(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            uow.session.add(account)
            await uow.session.flush()
            with suppress(RefusedError):
                async with savepoint(uow):
                    account.balance = 5
                    await uow.session.flush()
                    raise RefusedError
            account.record_event(Happened("after"))

        assert await facts(app, database_url) == ["after"]


async def test_a_tracked_plain_aggregate_forgets_too(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            early, late = Plain(), Plain()
            uow.track(early)
            with suppress(RefusedError):
                async with savepoint(uow):
                    uow.track(late)
                    early.record_event(Happened("early within"))
                    late.record_event(Happened("late within"))
                    raise RefusedError
            early.record_event(Happened("early after"))
            uow.track(late)
            late.record_event(Happened("late after"))

        assert await facts(app, database_url) == ["early after", "late after"]


async def test_a_failed_statement_takes_only_its_savepoint_along(
    make_app: AppFactory, database_url: str, savepoint: SetSavepoint
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            plain = Plain()
            uow.session.add(Effect(id=1, what="first"))
            with suppress(IntegrityError):
                async with savepoint(uow):
                    plain_within = Account()
                    plain_within.record_event(Happened("within"))
                    uow.session.add_all([plain_within, Effect(id=1, what="second")])
            plain.record_event(Happened("after"))
            uow.track(plain)

        assert await facts(app, database_url) == ["after"]
        assert await effects(app) == [("first", "")]


async def test_savepoints_nest(make_app: AppFactory, database_url: str, savepoint: SetSavepoint) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            uow.session.add(account)
            async with savepoint(uow):
                account.record_event(Happened("outer"))
                with suppress(RefusedError):
                    async with savepoint(uow):
                        account.record_event(Happened("inner"))
                        raise RefusedError
                account.record_event(Happened("outer again"))
            with suppress(RefusedError):
                async with savepoint(uow):
                    async with savepoint(uow):
                        account.record_event(Happened("released and gone"))
                    raise RefusedError

        assert await facts(app, database_url) == ["outer", "outer again"]


async def test_a_handler_may_use_one(make_app: AppFactory, database_url: str) -> None:
    class Try(DomainEventHandler[Happened]):
        def __init__(self, uow: UnitOfWork, session: AsyncSession) -> None:
            self.uow, self.session = uow, session

        async def handle(self, event: Happened) -> None:
            if event.what != "tried":
                return
            with suppress(RefusedError):
                async with self.uow.savepoint():
                    account = Account()
                    account.record_event(Happened("within"))
                    self.session.add(account)
                    self.uow.publish(FactV1(what="published within"))
                    raise RefusedError
            other = Account()
            other.record_event(Happened("after"))
            self.session.add(other)

    async with make_app(module_of("bank", Try, HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            account.record_event(Happened("tried"))
            uow.session.add(account)

        assert await facts(app, database_url) == ["tried", "after"]
