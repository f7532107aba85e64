"""The moment of the commit: cancelled, broken or refused, its outcome is awaited and told as it is."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select

from mediator import CommandHandler, MediatorApp, Runtime
from mediator.errors import CommitOutcomeUnknownError
from mediator.publishing.unit_of_work import shielded
from tests.publishing.bank import Do, FactV1, facts
from tests.storage.rows import stored
from tests.support import Account, AppFactory, module_of
from tests.support.databases import execute


def at(place: str, do: Callable[[], object]) -> Runtime:
    """A runtime that does something at a crash point, once."""
    left = [do]

    def reached(here: str) -> None:
        if here == place and left:
            left.pop()()

    return Runtime(reached=reached)


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def owners(app: MediatorApp) -> list[str]:
    async with app.unit_of_work() as uow:
        return list((await uow.session.exec(select(Account.owner))).all())


async def open_account(app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        uow.session.add(Account(owner="Ada"))
        uow.publish(FactV1(what="opened"))


async def test_a_task_cancelled_while_committing_has_committed_and_is_cancelled_then(
    make_app: AppFactory, database_url: str
) -> None:
    places: list[str] = []

    def reached(place: str) -> None:
        if place == "uow.before_commit" and place not in places:
            cancel_this_task()
        places.append(place)

    async with make_app(module_of("bank"), runtime=Runtime(reached=reached)) as app:
        task = asyncio.create_task(open_account(app))
        with pytest.raises(asyncio.CancelledError):
            await task

        # The outcome was known before anybody heard of the cancellation.
        assert "uow.after_commit" in places
        assert await owners(app) == ["Ada"]
        assert await facts(app, database_url) == ["opened"]


@pytest.mark.parametrize("place", ["uow.before_flush", "uow.after_flush", "uow.after_outbox"])
async def test_a_task_cancelled_before_it_has_not_committed(
    make_app: AppFactory, database_url: str, place: str
) -> None:
    async with make_app(module_of("bank"), runtime=at(place, cancel_this_task)) as app:
        task = asyncio.create_task(open_account(app))
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await owners(app) == []
        assert await facts(app, database_url) == []


async def test_a_handler_that_hides_its_cancellation_does_not_commit(make_app: AppFactory, database_url: str) -> None:
    started = asyncio.Event()

    class Hide(CommandHandler[Do, Any]):
        async def handle(self, command: Do) -> None:
            started.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async with make_app(module_of("bank", Hide)) as app:
        task = asyncio.create_task(app.mediator.send(Do()))
        await started.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_task_that_was_cancelled_earlier_and_went_on_may_commit(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank")) as app:

        async def clean_up() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await open_account(app)
                raise

        task = asyncio.create_task(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

        assert await facts(app, database_url) == ["opened"]


async def test_the_connection_comes_back_after_a_cancellation(make_app: AppFactory) -> None:
    async with make_app(module_of("bank"), runtime=at("uow.after_outbox", cancel_this_task)) as app:
        with suppress(asyncio.CancelledError):
            await asyncio.create_task(open_account(app))
        await open_account(app)

        assert await owners(app) == ["Ada"]


# MariaDB and MySQL check everything before the commit.
@pytest.mark.databases("sqlite", "postgresql", "psycopg")
async def test_a_commit_that_the_database_refuses_is_a_rollback(make_app: AppFactory, database_url: str) -> None:
    execute(database_url, "CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    execute(database_url, "CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
    async with make_app(module_of("bank")) as app:
        with pytest.raises(IntegrityError):  # noqa: PT012
            async with app.unit_of_work() as uow:
                uow.publish(FactV1(what="never"))
                connection = await uow.session.connection()
                await connection.exec_driver_sql("INSERT INTO child VALUES (7)")

        assert await facts(app, database_url) == []
        await open_account(app)
        assert await facts(app, database_url) == ["opened"]


# Servers are asked what became of it: tests/promises/test_g9_outcome_of_commits.py.
@pytest.mark.databases("sqlite")
async def test_a_connection_that_breaks_while_committing_leaves_the_outcome_unknown(make_app: AppFactory) -> None:
    async with make_app(module_of("bank")) as app:
        engine = app._started("the test").services[0].database.writer.sync_engine

        def lose_the_connection(_connection: object) -> None:
            raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O"), connection_invalidated=True)

        event.listen(engine, "commit", lose_the_connection)
        with pytest.raises(CommitOutcomeUnknownError, match="may or may not have happened") as unknown:
            await open_account(app)
        event.remove(engine, "commit", lose_the_connection)

        assert unknown.value.unit_of_work == "unit of work"
        assert isinstance(unknown.value.__cause__, OperationalError)


async def test_outbox_rows_are_there_the_moment_the_commit_returns(make_app: AppFactory, database_url: str) -> None:
    seen: list[int] = []

    def look() -> None:
        for table in ("mediator_outbox", "mediator_sent"):
            seen.extend(row[0] for row in execute(database_url, f"SELECT count(*) FROM {table}"))

    async with make_app(module_of("bank"), runtime=at("uow.after_commit", look)) as app:
        await open_account(app)
        await app.drained()

    # The relay may be that quick.
    assert sorted(seen) == [0, 1]
    assert len(await stored(database_url, "sent")) == 1


async def test_shielded_work_gives_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await shielded(work()) == 7


async def test_shielded_work_is_awaited_through_several_cancellations() -> None:
    may_end, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        done.set()

    task = asyncio.create_task(shielded(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_the_error_of_shielded_work_goes_before_the_cancellation() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise ValueError("the commit failed")

    task = asyncio.create_task(shielded(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(ValueError, match="the commit failed"):
        await task
