"""Notifications of PostgreSQL: told to whoever listens for the same outbox, and to nobody else."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager

import pytest
from sqlalchemy import text

from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.notifications import _channel, notify, told_slots
from tests.storage.drivers import ON_POSTGRESQL
from tests.storage.rows import end_session, eventually, execute

pytestmark = ON_POSTGRESQL

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[AsyncGenerator[Collection[int], None]]:
    async with aclosing(told_slots(database)) as told:
        assert await next_of(told) == []
        yield told


async def next_of(told: AsyncGenerator[Collection[int], None]) -> Collection[int]:
    async with asyncio.timeout(20):
        return await anext(told)


async def tell(database: Database, *slots: int) -> None:
    async with database.dedicated() as connection:
        await notify(database, connection, slots)


@asynccontextmanager
async def other_database(url: str, **place: str) -> AsyncIterator[Database]:
    other = Database(url, **place)  # type: ignore[arg-type]
    await other.open()
    yield other
    await other.close()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_what_one_process_tells_another_hears(database: Database, database_url: str, driver: str) -> None:
    url = Database(database_url).url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    async with listening(database) as told, other_database(url) as other:
        await tell(other, 7, 0, 12)
        await tell(other, 3)

        assert [await next_of(told), await next_of(told)] == [[0, 7, 12], [3]]


async def test_what_was_told_before_is_not_heard(database: Database) -> None:
    await tell(database, 1)
    async with listening(database) as told:
        await tell(database, 2)

        assert await next_of(told) == [2]


@pytest.mark.parametrize("place", [{"prefix": "other_"}, {"schema": "other"}])
async def test_other_outboxes_in_the_database_tell_somebody_else(
    database: Database, database_url: str, place: dict[str, str]
) -> None:
    async with listening(database) as told, other_database(database_url, **place) as other:
        await tell(other, 1)
        await tell(database, 2)

        assert await next_of(told) == [2]


async def test_a_notification_is_sent_at_once(database: Database) -> None:
    async with listening(database) as told, database.dedicated() as connection:
        await notify(database, connection, [5])

        assert await next_of(told) == [5]


async def test_what_is_no_slot_is_passed_over(database: Database, database_url: str) -> None:
    async with listening(database) as told:
        execute(database_url, f"SELECT pg_notify('{_channel(database)}', 'x,4,,-,--1,5 ,-2')")

        assert await next_of(told) == [4, -2]


async def test_a_lost_connection_is_an_outage(database: Database, database_url: str) -> None:
    async with listening(database) as told:
        ((number,),) = execute(database_url, LISTENERS)
        end_session(database_url, number)
        with pytest.raises(Exception) as lost:  # noqa: PT011 - drivers differ
            await next_of(told)

    assert is_transient(lost.value)
    async with listening(database) as told:
        await tell(database, 9)
        assert await next_of(told) == [9]


async def test_whoever_stops_listening_leaves_no_connection_behind(database: Database, database_url: str) -> None:
    async with listening(database):
        assert len(execute(database_url, LISTENERS)) == 1

    await eventually(lambda: execute(database_url, LISTENERS) == [])


async def test_whoever_is_cancelled_while_listening_leaves_no_connection_behind(
    database: Database, database_url: str
) -> None:
    async def listen() -> None:
        async with listening(database) as told:
            await anext(told)

    task = asyncio.create_task(listen())
    await eventually(lambda: len(execute(database_url, LISTENERS)) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await eventually(lambda: execute(database_url, LISTENERS) == [])


async def test_listening_holds_no_transaction_open(database: Database, database_url: str) -> None:
    # It would keep the server from cleaning up for as long as the relay runs.
    async with listening(database), database.read() as connection:
        rows = await connection.execute(text("SELECT state FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"))
        states = {state for (state,) in rows}
        numbers = execute(database_url, LISTENERS)

    assert len(numbers) == 1
    assert states == {"idle"}
