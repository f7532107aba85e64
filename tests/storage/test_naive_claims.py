"""What simpler ways to take charge of an event would do: each of them fails beside the one that the toolkit takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Executable, insert, select
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mediator.errors import ClaimBusyError
from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.mysql import error_number
from tests.storage.drivers import ON_MYSQL, ON_POSTGRESQL, ON_SERVERS
from tests.storage.rows import execute
from tests.storage.test_inbox import HASH, WELCOME, busy, claim


def row(subscriber_id: str, event_id: UUID) -> dict[str, Any]:
    return {"subscriber_id": subscriber_id, "event_id": event_id, "payload_hash": HASH, "processed_at": 1}


async def rowcount(database: Database, statement: Executable) -> int:
    async with database.begin() as connection:
        result: Any = await connection.execute(statement)
        return int(result.rowcount)


@asynccontextmanager
async def with_old_snapshot(database: Database, isolation_level: str | None) -> AsyncIterator[AsyncConnection]:
    """A transaction that has looked at the inbox; at None it is one of the toolkit's own."""
    look = select(database.tables.inbox).limit(1)
    if isolation_level is None:
        async with database.begin() as connection:
            await connection.execute(look)
            yield connection
        return
    engine = create_async_engine(database.url, isolation_level=isolation_level)
    try:
        async with engine.connect() as connection:
            await connection.execute(look)
            yield connection
    finally:
        await engine.dispose()


@pytest.mark.databases("psycopg")
async def test_the_number_of_inserted_rows_says_nothing_with_psycopg(database: Database) -> None:
    values, identity = row(WELCOME, uuid4()), uuid4()
    ignoring = postgresql.insert(database.tables.inbox).on_conflict_do_nothing()

    def is_taken(count: int) -> bool:
        return count == 1

    taken = [is_taken(await rowcount(database, ignoring.values(values))) for _ in range(2)]
    assert taken != [True, False], "what a claim finds that looks at the number"
    ours = [await claim(database, WELCOME, (), identity, HASH) for _ in range(2)]
    assert ours == [Claim.TAKEN, Claim.DUPLICATE]


@ON_MYSQL
async def test_a_row_that_is_there_counts_as_inserted_with_on_duplicate_key_update(database: Database) -> None:
    values, identity = row(WELCOME, uuid4()), uuid4()
    inbox = database.tables.inbox
    known = mysql.insert(inbox).values(values).on_duplicate_key_update(event_id=inbox.c.event_id)

    assert [await rowcount(database, known) for _ in range(2)] == [1, 1], "the first, and its duplicate"
    ours = [await claim(database, WELCOME, (), identity, HASH) for _ in range(2)]
    assert ours == [Claim.TAKEN, Claim.DUPLICATE]


@ON_MYSQL
async def test_insert_ignore_cuts_ids_and_takes_the_second_for_a_duplicate(database: Database) -> None:
    identity = uuid4()
    long = [f"{'x' * 100}{end}" for end in ("one", "two")]
    ignoring = insert(database.tables.inbox).prefix_with("IGNORE")

    assert [await rowcount(database, ignoring.values(row(name, identity))) for name in long] == [1, 0]
    for name in long:
        with pytest.raises(DataError):
            await claim(database, name, (), uuid4(), HASH)


@ON_MYSQL
async def test_with_the_servers_usual_collation_two_subscribers_are_one(database: Database, database_url: str) -> None:
    name = make_url(database_url).database
    execute(database_url, f"ALTER DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    execute(database_url, "CREATE TABLE inbox (subscriber_id VARCHAR(100) PRIMARY KEY)")
    names = ["mail.cafe", "mail.Cafe", "mail.café"]

    def taken(subscriber_id: str) -> int:
        execute(database_url, "INSERT IGNORE INTO inbox VALUES (?)", subscriber_id)
        return len(execute(database_url, "SELECT * FROM inbox"))

    assert [taken(name) for name in names] == [1, 1, 1]
    identity = uuid4()
    assert [await claim(database, name, (), identity, HASH) for name in names] == [Claim.TAKEN] * 3


@ON_POSTGRESQL
async def test_under_repeatable_read_the_second_delivery_fails(database: Database, database_url: str) -> None:
    identity, inbox = uuid4(), InboxTable(database.tables)
    async with with_old_snapshot(database, "REPEATABLE READ") as second:
        assert await claim(database, WELCOME, (), identity, HASH) is Claim.TAKEN
        with pytest.raises(DBAPIError) as failed:
            await inbox.claim(second, WELCOME, (), identity, HASH)
    assert getattr(failed.value.orig, "sqlstate", None) == "40001"

    # Even when it is what the database asks for.
    name = make_url(database_url).database
    execute(database_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    ours, later = Database(database_url), uuid4()
    async with with_old_snapshot(ours, None) as second:
        assert await claim(database, WELCOME, (), later, HASH) is Claim.TAKEN
        assert await inbox.claim(second, WELCOME, (), later, HASH) is Claim.DUPLICATE
    await ours.close()


@ON_MYSQL
async def test_under_repeatable_read_the_second_delivery_does_not_see_the_first(database: Database) -> None:
    identity, later, inbox = uuid4(), uuid4(), InboxTable(database.tables)
    async with with_old_snapshot(database, "REPEATABLE READ") as second:
        assert await claim(database, WELCOME, (), identity, HASH) is Claim.TAKEN
        # The insert finds it, the look-up does not.
        with pytest.raises(ClaimBusyError):
            await inbox.claim(second, WELCOME, (), identity, HASH)

    async with with_old_snapshot(database, None) as second:
        assert await claim(database, WELCOME, (), later, HASH) is Claim.TAKEN
        assert await inbox.claim(second, WELCOME, (), later, HASH) is Claim.DUPLICATE


@ON_SERVERS
async def test_a_look_up_lets_two_deliveries_through_that_arrive_at_once(database: Database) -> None:
    identity, inbox = uuid4(), InboxTable(database.tables)
    async with database.begin() as first, database.writer.connect() as second:
        looks = [await inbox.known_hash(one, [WELCOME], identity) for one in (first, second)]
        assert looks == [None, None], "both would handle it"

        assert await inbox.claim(first, WELCOME, (), identity, HASH) is Claim.TAKEN
        with busy():
            await inbox.claim(second, WELCOME, (), identity, HASH)


@ON_MYSQL
async def test_the_error_of_a_duplicate_is_told_from_others_by_its_number(database: Database) -> None:
    with pytest.raises(DBAPIError) as refused:
        await claim(database, WELCOME, (), uuid4(), None)

    assert error_number(refused.value) == 1048
