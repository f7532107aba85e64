"""Errors that mean "roll back and try again" are known, and leave nothing of the transaction behind."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mediator.errors import ClaimBusyError, CommitOutcomeUnknownError
from mediator.storage.database import Database
from mediator.storage.engines import is_connecting, is_transient, was_cut_off
from mediator.storage.mysql import LOCK_TIMEOUT, error_number
from tests.storage.drivers import EVERY_DRIVER, ON_MYSQL, ON_POSTGRESQL, ON_SERVERS
from tests.storage.rows import end_session, session_of

pytestmark = ON_SERVERS

DEADLOCK = 1213


def state(error: BaseException) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlstate", ""))


async def values(database: Database) -> dict[str, str]:
    meta = database.tables.meta.c
    async with database.read() as connection:
        rows = await connection.execute(select(meta.name, meta.value).where(meta.name.in_(["a", "b"])))
        return {name: value for name, value in rows}  # noqa: C416


async def with_two_rows(database: Database) -> None:
    async with database.begin() as connection:
        rows = [{"name": name, "value": "before"} for name in ("a", "b")]
        await connection.execute(insert(database.tables.meta), rows)


async def change(database: Database, connection: AsyncConnection, name: str, value: str) -> None:
    meta = database.tables.meta
    await connection.execute(update(meta).where(meta.c.name == name).values(value=value))


async def test_the_victim_of_a_deadlock_is_rolled_back_and_asked_to_try_again(database: Database) -> None:
    await with_two_rows(database)
    both_began = asyncio.Barrier(2)

    async def crosswise(value: str, *names: str) -> BaseException | None:
        try:
            async with database.begin() as connection:
                await change(database, connection, names[0], value)
                await both_began.wait()
                await change(database, connection, names[1], value)
        except DBAPIError as error:
            return error
        return None

    outcomes = await asyncio.gather(crosswise("one", "a", "b"), crosswise("two", "b", "a"))

    (error,) = [outcome for outcome in outcomes if outcome is not None]
    winner = "two" if outcomes[0] is error else "one"
    assert error_number(error) == DEADLOCK if database.dialect == "mysql" else state(error) == "40P01"
    assert is_transient(error)
    assert await values(database) == {"a": winner, "b": winner}


@ON_MYSQL
async def test_a_lock_that_is_not_free_in_time_leaves_nothing_behind(database: Database) -> None:
    await with_two_rows(database)

    async def half(connection: AsyncConnection) -> None:
        await connection.execute(text("SET SESSION innodb_lock_wait_timeout = 1"))
        await change(database, connection, "a", "half of it")
        await change(database, connection, "b", "the other half")

    async with database.writer.connect() as holder:
        await change(database, holder, "b", "held")
        with pytest.raises(OperationalError) as timeout:
            async with database.begin() as connection:
                await half(connection)
        assert await values(database) == {"a": "before", "b": "before"}

        # The transaction is still open: whoever goes on and commits keeps half of it.
        async with database.writer.connect() as naive:
            with pytest.raises(OperationalError):
                await half(naive)
            await naive.commit()
        await holder.rollback()

    assert error_number(timeout.value) == LOCK_TIMEOUT
    assert is_transient(timeout.value)
    assert await values(database) == {"a": "half of it", "b": "before"}


@ON_POSTGRESQL
async def test_transactions_that_conflict_under_a_stricter_isolation_are_asked_to_try_again(
    database: Database,
) -> None:
    await with_two_rows(database)
    async with database.snapshot() as connection:
        await connection.execute(select(database.tables.meta))
        async with database.begin() as other:
            await change(database, other, "a", "changed meanwhile")
        with pytest.raises(DBAPIError) as conflict:
            await change(database, connection, "a", "late")

    assert state(conflict.value) == "40001"
    assert is_transient(conflict.value)


async def test_under_read_committed_a_row_that_was_changed_meanwhile_can_be_changed(database: Database) -> None:
    await with_two_rows(database)
    async with database.begin() as connection:
        await connection.execute(select(database.tables.meta))
        async with database.begin() as other:
            await change(database, other, "a", "changed meanwhile")
        await change(database, connection, "a", "late")

    assert (await values(database))["a"] == "late"


async def test_a_connection_that_is_cut_off_is_no_fault_and_not_used_again(
    database: Database, database_url: str
) -> None:
    with pytest.raises(Exception) as cut:  # noqa: PT011, PT012 - drivers differ; the block is the transaction
        async with database.begin() as connection:
            end_session(database_url, await session_of(connection))
            await asyncio.sleep(0.1)
            await connection.execute(text("SELECT 1"))

    assert is_transient(cut.value)
    assert was_cut_off(cut.value)
    for _ in range(4):
        async with database.begin() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1


async def test_an_idle_connection_that_was_cut_off_costs_one_attempt_at_most(
    database: Database, database_url: str
) -> None:
    async with database.begin() as connection:
        number = await session_of(connection)
    end_session(database_url, number)
    await asyncio.sleep(0.1)

    errors = [error for error in [await tried(database) for _ in range(4)] if error is not None]
    assert len(errors) <= 1
    assert all(is_transient(error) for error in errors)


async def tried(database: Database) -> Exception | None:
    """What a transaction meets that does nothing."""
    try:
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - drivers differ
        return error
    return None


async def test_a_server_that_is_not_there_is_no_fault(database_url: str) -> None:
    database = Database(Database(database_url).url.set(port=1))
    with pytest.raises(Exception) as refused:  # noqa: PT011 - drivers differ
        async with database.begin():
            raise AssertionError
    await database.close()

    assert is_connecting(refused.value)
    assert is_transient(refused.value)


async def test_a_pool_that_is_empty_for_too_long_is_no_fault(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.storage.engines._POOL_PATIENCE_SECONDS", 0.1)
    database = Database(database_url)
    taken = [await database.writer.connect() for _ in range(10)]
    with pytest.raises(Exception) as empty:  # noqa: PT011 - SQLAlchemy's own
        await database.writer.connect()
    for connection in taken:
        await connection.close()
    await database.close()

    assert is_transient(empty.value)


@EVERY_DRIVER
@pytest.mark.parametrize(
    "statement", ["SELECT nonsense FROM nowhere", "INSERT INTO mediator_meta (name) VALUES (NULL)"]
)
async def test_faults_are_not_tried_again(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError) as fault:
        async with database.begin() as connection:
            await connection.execute(text(statement))

    assert not is_transient(fault.value)


async def test_the_troubles_of_a_handlers_own_engine_are_the_handlers(database: Database, database_url: str) -> None:
    engine: Any = create_async_engine(database_url)
    with pytest.raises(Exception) as cut:  # noqa: PT011, PT012 - drivers differ; the block is the transaction
        async with engine.begin() as connection:
            end_session(database_url, await session_of(connection))
            await asyncio.sleep(0.1)
            await connection.execute(text("SELECT 1"))
    await engine.dispose()

    assert not is_transient(cut.value)


def test_what_the_next_attempt_finds_out_counts_none() -> None:
    assert is_transient(ClaimBusyError("mail.welcome", uuid4()))
    assert is_transient(CommitOutcomeUnknownError("PlaceOrder"))
    assert not is_transient(KeyError())
