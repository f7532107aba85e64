"""The proxy breaks connections where it says it does: tried with every driver, and judged by the server itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import NullPool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.databases import execute
from tests.support.proxy import Proxy
from tests.support.wire import MySQLConversation, PostgreSQLConversation

pytestmark = pytest.mark.databases("postgresql", "psycopg", "mariadb")

INSERT = text("INSERT INTO things VALUES (:name)")
LOST = (DBAPIError, OSError)


@pytest_asyncio.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    await beside(database_url, "CREATE TABLE things (name VARCHAR(50) PRIMARY KEY)")
    await beside(database_url, "CREATE TABLE others (name VARCHAR(50) PRIMARY KEY)")
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def engine(proxy: Proxy) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(proxy.url)
    yield engine
    await engine.dispose()


async def insert(engine: AsyncEngine, name: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(INSERT, {"name": name})


async def beside(url: str, statement: str) -> list[Any]:
    """The proxy works on the loop of the test, which must not stand still."""
    return await asyncio.to_thread(execute, url, statement)


async def names(url: str) -> list[str]:
    return [row[0] for row in await beside(url, "SELECT name FROM things ORDER BY name")]


async def eventually_named(url: str, expected: list[str]) -> None:
    async with asyncio.timeout(20):
        while await names(url) != expected:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


async def test_what_nobody_breaks_arrives(proxy: Proxy, engine: AsyncEngine, database_url: str) -> None:
    long = "x" * 300_000
    await insert(engine, "one")
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT name FROM things"))).scalars().all() == ["one"]
        assert await connection.scalar(text("SELECT CAST(:long AS CHAR(300000))"), {"long": long}) == long
        assert await connection.scalar(text("SELECT :one"), {"one": "1"}) == "1"
    async with engine.begin() as connection:
        await connection.execute(INSERT, [{"name": f"{number:03}"} for number in range(500)])

    assert len(await names(database_url)) == 501
    assert make_url(proxy.url).port != make_url(database_url).port
    assert proxy.connections == proxy.accepted == 1
    assert proxy.commits == 2


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_before_the_commit_leaves_nothing(
    proxy: Proxy, engine: AsyncEngine, database_url: str, reset: bool
) -> None:
    await insert(engine, "earlier")
    trap = proxy.cut_before_commit(reset=reset)

    with pytest.raises(LOST):
        await insert(engine, "lost")

    await trap.happened()
    await insert(engine, "later")
    await eventually_named(database_url, ["earlier", "later"])


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_after_the_commit_leaves_what_was_committed(
    proxy: Proxy, engine: AsyncEngine, database_url: str, reset: bool
) -> None:
    await insert(engine, "earlier")
    trap = proxy.cut_after_commit(reset=reset)

    with pytest.raises(LOST):
        await insert(engine, "unknown")

    await trap.happened()
    assert await names(database_url) == ["earlier", "unknown"]
    await insert(engine, "later")


async def test_a_commit_may_arrive_after_the_client_was_cut_off(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    trap = proxy.deliver_commit_late()

    with pytest.raises(LOST):
        await insert(engine, "late")

    await trap.happened()
    await insert(engine, "meanwhile")
    assert await names(database_url) == ["meanwhile"]
    trap.release()
    await eventually_named(database_url, ["late", "meanwhile"])


async def test_a_commit_that_is_late_arrives_by_itself(proxy: Proxy, engine: AsyncEngine, database_url: str) -> None:
    proxy.deliver_commit_late(0.2)

    with pytest.raises(LOST):
        await insert(engine, "late")

    await eventually_named(database_url, ["late"])


async def test_a_commit_is_held_before_the_server(proxy: Proxy, engine: AsyncEngine, database_url: str) -> None:
    trap = proxy.hold_commit()
    inserting = asyncio.create_task(insert(engine, "held"))
    await trap.happened()

    assert await names(database_url) == []
    assert not inserting.done()
    trap.release()
    await inserting
    assert await names(database_url) == ["held"]


async def test_the_answer_to_a_commit_is_held_before_the_client(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    trap = proxy.hold_commit_answer()
    inserting = asyncio.create_task(insert(engine, "held"))
    await trap.happened()

    assert await names(database_url) == ["held"]
    await asyncio.sleep(0.2)
    assert not inserting.done()
    trap.release()
    await inserting


async def test_what_is_held_for_a_time_goes_on_by_itself(proxy: Proxy, engine: AsyncEngine) -> None:
    await insert(engine, "connected")
    for trap in (proxy.hold_commit(0.3), proxy.hold_commit_answer(0.3)):
        begun = time.monotonic()
        await insert(engine, f"held {begun}")
        await trap.happened()
        assert time.monotonic() - begun >= 0.3


async def test_a_trap_is_for_the_transactions_with_its_statement_and_so_often(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    trap = proxy.cut_before_commit(of="INTO things", times=2)
    outcomes = []
    for number in range(4):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO others VALUES (:name)"), {"name": str(number)})
        try:
            await insert(engine, str(number))
            outcomes.append("committed")
        except LOST:
            outcomes.append("lost")

    assert outcomes == ["lost", "lost", "committed", "committed"]
    await trap.happened()
    await trap.happened()
    assert len(await beside(database_url, "SELECT name FROM others")) == 4
    assert proxy.commits == 8


async def test_statements_that_were_prepared_before_are_known(proxy: Proxy, engine: AsyncEngine) -> None:
    # psycopg prepares what it has seen five times; asyncpg prepares at once and sends the text only then.
    async with engine.connect() as connection:
        for number in range(8):
            await connection.execute(INSERT, {"name": str(number)})
            await connection.commit()
        proxy.cut_before_commit(of="INTO things")
        await connection.execute(INSERT, {"name": "last"})
        with pytest.raises(LOST):
            await connection.commit()


async def test_a_transaction_that_was_rolled_back_is_forgotten(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    proxy.cut_before_commit(of="INTO things")
    async with engine.connect() as connection:
        await connection.execute(INSERT, {"name": "undone"})
        await connection.rollback()
        await connection.execute(text("INSERT INTO others VALUES ('kept')"))
        await connection.commit()

    assert [tuple(row) for row in await beside(database_url, "SELECT name FROM others")] == [("kept",)]
    assert await names(database_url) == []


async def test_a_savepoint_ends_no_transaction(proxy: Proxy, engine: AsyncEngine) -> None:
    proxy.cut_before_commit(of="INTO things")
    with pytest.raises(LOST):  # noqa: PT012 - the block is the transaction
        async with engine.begin() as connection:
            await connection.execute(INSERT, {"name": "one"})
            async with connection.begin_nested():
                await connection.execute(text("INSERT INTO others VALUES ('one')"))
            nested = await connection.begin_nested()
            await nested.rollback()


async def test_a_commit_that_the_server_refuses_is_an_answer_too(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    if make_url(database_url).get_backend_name() != "postgresql":
        return
    await beside(database_url, "ALTER TABLE things ADD CONSTRAINT late UNIQUE (name) DEFERRABLE INITIALLY DEFERRED")
    trap = proxy.hold_commit_answer()

    async def refused() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE things DROP CONSTRAINT things_pkey"))
            await connection.execute(INSERT, [{"name": "same"}, {"name": "same"}])

    working = asyncio.create_task(refused())
    await trap.happened()
    trap.release()
    with pytest.raises(DBAPIError, match="late"):
        await working


@pytest.mark.parametrize("reset", [True, False])
async def test_all_connections_are_cut_at_once(proxy: Proxy, engine: AsyncEngine, reset: bool) -> None:
    async with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            await connection.execute(text("SELECT 1"))
        assert proxy.connections == 2
        proxy.cut(reset=reset)
        for connection in (one, two):
            with pytest.raises(LOST):
                await connection.execute(text("SELECT 1"))
            await connection.invalidate()

    await insert(engine, "again")
    assert proxy.connections == 1


async def test_the_server_notices_a_cut(proxy: Proxy, engine: AsyncEngine, database_url: str) -> None:
    connection = await engine.connect()
    await connection.execute(INSERT, {"name": "locked"})
    proxy.cut()

    # The lock of the connection that was cut is free again.
    await beside(database_url, "INSERT INTO things VALUES ('locked')")
    assert await names(database_url) == ["locked"]
    await connection.invalidate()
    await connection.close()


async def test_connections_are_refused_and_accepted_again(proxy: Proxy) -> None:
    engine = create_async_engine(proxy.url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        for _ in range(2):
            proxy.refuse()
            with pytest.raises(LOST):
                await engine.connect()
            await connection.execute(text("SELECT 1"))

            await proxy.accept()
            async with engine.connect() as another:
                await another.execute(text("SELECT 1"))


@pytest.mark.parametrize("direction", ["to_server", "to_client", "both"])
async def test_what_is_said_is_held_in_either_direction(
    proxy: Proxy, engine: AsyncEngine, database_url: str, direction: str
) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await connection.commit()
        proxy.hold(to_server=direction != "to_client", to_client=direction != "to_server")

        async def write() -> None:
            await connection.execute(INSERT, {"name": "held"})
            await connection.commit()

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.3)
        assert not writing.done()
        assert await names(database_url) == []
        proxy.release()
        await writing
    assert await names(database_url) == ["held"]


async def test_held_answers_belong_to_statements_that_ran(proxy: Proxy, engine: AsyncEngine, database_url: str) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("INSERT INTO others VALUES ('warm')"))
        await connection.execute(INSERT, {"name": "first"})
        proxy.hold(to_server=False)
        writing = asyncio.create_task(connection.execute(INSERT, {"name": "held"}))

        await eventually_named(database_url, ["first", "held"])
        assert not writing.done()
        proxy.release()
        await writing


async def test_what_servers_answer_is_swallowed_until_the_next_cut(
    proxy: Proxy, engine: AsyncEngine, database_url: str
) -> None:
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(INSERT, {"name": "one"})
        proxy.swallow()
        unheard = asyncio.create_task(autocommit.execute(INSERT, {"name": "two"}))
        await asyncio.wait([unheard], timeout=0.2)
        assert not unheard.done()
        assert proxy.swallowed > 0

        proxy.cut()
        with pytest.raises(LOST):
            await unheard
    await insert(engine, "three")

    assert await names(database_url) == ["one", "three", "two"]


async def test_a_delay_slows_every_answer(proxy: Proxy, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        proxy.delay = 0.1
        begun = time.monotonic()
        await connection.execute(text("SELECT 1"))

        assert time.monotonic() - begun >= 0.2
        proxy.delay = 0


async def test_leaving_the_block_cuts_what_is_open(database_url: str) -> None:
    async with Proxy(database_url) as proxy:
        engine = create_async_engine(proxy.url)
        connection = await engine.connect()
        await connection.execute(text("SELECT 1"))
        trap = proxy.hold_commit()
        committing = asyncio.create_task(connection.commit())
        await trap.happened()

    with pytest.raises(LOST):
        await committing
    await connection.invalidate()
    await connection.close()
    await engine.dispose()


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_messages_are_found_however_they_are_torn(size: int) -> None:
    def message(kind: bytes, content: bytes) -> bytes:
        return kind + (len(content) + 4).to_bytes(4) + content

    def packet(number: int, content: bytes) -> bytes:
        return len(content).to_bytes(3, "little") + bytes([number]) + content

    started = [message(b"", b"\x04\xd2\x16\x2f"), message(b"", b"\0\3\0\0user\0ada\0\0")]
    said = [message(b"P", b"s\0SELECT 'COMMIT;'\0\0\0"), message(b"Q", b"COMMIT;\0"), message(b"Q", b"ROLLBACK\0")]
    postgresql = b"".join([*started, *said])
    mysql = packet(1, b"\3COMMIT") + packet(0, b"\3commit") + packet(0, b"\1COMMIT") + packet(0, b"\3ROLLBACK")

    for talk, data, commits in (
        (PostgreSQLConversation(), postgresql, [False, False, False, True, False]),
        (MySQLConversation(), mysql, [False, True, False, False]),
    ):
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        messages = [message for part in parts for message in talk.from_client(part)]

        assert b"".join(message.data for message in messages) == data
        assert [message.is_commit for message in messages] == commits
        assert [message.ends_transaction for message in messages] == [*commits[:-1], True]
