"""Locks on keys: one transaction at a time has a key, however it ends; who waits too long is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import LockTimeoutError
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.locks import KeyLocks
from mediator.storage.schema import create_schema
from tests.storage.drivers import EVERY_DRIVER, ON_MYSQL, ON_SERVERS
from tests.storage.rows import end_session, session_of, stored

pytestmark = ON_SERVERS

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=1)


@asynccontextmanager
async def holding(database: Database, *keys: str, timeout: timedelta = LONG) -> AsyncIterator[AsyncConnection]:
    """A unit of work that has these keys."""
    async with database.writer.begin() as connection:
        await KeyLocks(database).take(connection, keys, timeout)
        yield connection


async def is_free(database: Database, key: str) -> bool:
    try:
        async with holding(database, key, timeout=SHORT):
            return True
    except LockTimeoutError:
        return False


@EVERY_DRIVER
async def test_what_is_done_under_a_lock_is_done_one_after_the_other(database: Database) -> None:
    meta = database.tables.meta
    async with database.begin() as connection:
        await connection.execute(insert(meta).values(name="count", value="0"))

    async def count_up() -> None:
        async with holding(database, "the count") as connection:
            value = await connection.scalar(select(meta.c.value).where(meta.c.name == "count"))
            await asyncio.sleep(0.001)
            counted = update(meta).where(meta.c.name == "count").values(value=str(int(value or 0) + 1))
            await connection.execute(counted)

    await asyncio.gather(*(count_up() for _ in range(15)))

    assert {row["name"]: row["value"] for row in await stored_meta(database)}["count"] == "15"


async def stored_meta(database: Database) -> list[dict[str, str]]:
    async with database.read() as connection:
        return [dict(row) for row in (await connection.execute(select(database.tables.meta))).mappings()]


async def test_a_key_that_is_not_free_in_time_is_told(database: Database) -> None:
    async with holding(database, "order 1"):
        with pytest.raises(LockTimeoutError) as late:
            async with holding(database, "another", "order 1", timeout=SHORT):
                raise AssertionError

    assert (late.value.key, late.value.timeout) == ("order 1", SHORT)
    assert not is_transient(late.value)
    assert await is_free(database, "another")


async def test_other_keys_are_free(database: Database) -> None:
    async with holding(database, "order 1"):
        for key in ("order 2", "Order 1", "order 1 ", "", "é", "x" * 1_000):
            assert await is_free(database, key), key
        assert not await is_free(database, "order 1")


async def test_long_keys_are_told_apart_to_their_end(database: Database) -> None:
    async with holding(database, "x" * 1_000 + "1"):
        assert await is_free(database, "x" * 1_000 + "2")
        assert not await is_free(database, "x" * 1_000 + "1")


async def test_another_application_in_the_database_has_keys_of_its_own(database: Database, database_url: str) -> None:
    other = Database(database_url, prefix="other_")
    await create_schema(other)
    async with holding(database, "order 1"):
        assert await is_free(other, "order 1")
    await other.close()


async def test_a_key_can_be_taken_twice(database: Database) -> None:
    async with holding(database, "order 1", "order 1") as connection:
        await KeyLocks(database).take(connection, ["order 1"], SHORT)
        if database.dialect != "sqlite":
            assert not await is_free(database, "order 1")

    assert await is_free(database, "order 1")


@pytest.mark.parametrize("ending", ["commit", "error", "cut"])
async def test_a_lock_ends_with_its_transaction(database: Database, database_url: str, ending: str) -> None:
    with suppress(Exception):
        async with holding(database, "order 1") as connection:
            if ending == "error":
                raise KeyError
            if ending == "cut":
                end_session(database_url, await session_of(connection))
                await connection.execute(text("SELECT 1"))

    # The server may still be ending the session: whoever waits a moment has it, and leaves it free.
    async with holding(database, "order 1"):
        assert not await is_free(database, "order 1")
    assert await is_free(database, "order 1")


async def test_whoever_waits_sees_what_the_one_before_did(database: Database) -> None:
    meta = database.tables.meta
    waits = asyncio.Event()

    async def second() -> str | None:
        waits.set()
        async with holding(database, "order 1") as connection:
            return await connection.scalar(select(meta.c.value).where(meta.c.name == "mine"))

    async with holding(database, "order 1") as connection:
        task = asyncio.create_task(second())
        await waits.wait()
        await asyncio.sleep(0.1)
        await connection.execute(insert(meta).values(name="mine", value="done"))

    assert await task == "done"


class Alone:
    """A place for one at a time."""

    def __init__(self) -> None:
        self.inside = self.visits = 0

    async def stay(self, seconds: float) -> None:
        self.inside += 1
        assert self.inside == 1, "somebody else has the key as well"
        await asyncio.sleep(seconds)
        self.inside -= 1
        self.visits += 1


async def test_two_that_want_the_same_keys_do_not_wait_crosswise(database: Database) -> None:
    keys, alone = ["a", "b", "c"], Alone()

    async def work(number: int) -> None:
        async with holding(database, *(keys if number % 2 else reversed(keys))):
            await alone.stay(0.001)

    await asyncio.gather(*(work(number) for number in range(12)))

    assert alone.visits == 12


async def test_in_another_order_they_would(database: Database) -> None:
    locks, both_began = KeyLocks(database), asyncio.Barrier(2)

    async def work(*keys: str) -> None:
        async with database.writer.begin() as connection:
            await locks.take(connection, keys[:1], SHORT)
            await both_began.wait()
            await locks.take(connection, keys[1:], SHORT)

    outcomes = await asyncio.gather(work("a", "b"), work("b", "a"), return_exceptions=True)

    assert any(outcome is not None for outcome in outcomes)


async def test_many_that_need_a_new_key_at_once_get_it_in_turn(database: Database) -> None:
    alone = Alone()

    # Of several transactions that insert the same row, MariaDB and MySQL end all but one.
    async def work() -> None:
        async with holding(database, "brand new"):
            await alone.stay(0.01)

    await asyncio.gather(*(work() for _ in range(8)))

    assert alone.visits == 8


async def test_whoever_is_cancelled_while_waiting_takes_nothing(database: Database) -> None:
    async with holding(database, "order 1"):
        task = asyncio.create_task(is_free(database, "order 1"))
        await asyncio.sleep(0.2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert await is_free(database, "order 1")


@ON_MYSQL
async def test_keys_are_kept_by_their_hash(database: Database, database_url: str) -> None:
    async with holding(database, "a secret"):
        pass

    (row,) = await stored(database_url, "locks")
    assert len(row["name"]) == 64
    assert "secret" not in row["name"]


@pytest.mark.databases("sqlite")
async def test_on_sqlite_a_transaction_has_every_key(database: Database) -> None:
    async with holding(database, "order 1", "order 2", timeout=SHORT):
        pass
