"""Statements on dead letters: locked by position, only those that have the status, and never waited for."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from mediator.storage.database import Database
from mediator.storage.dead_letters import DeadLetterTable
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, RETRY, ParkedTable
from tests.storage.drivers import EVERY_DRIVER, ON_SERVERS
from tests.storage.rows import stored
from tests.storage.test_parked import HOUR, WELCOME, due, park, statuses

pytestmark = EVERY_DRIVER


async def locked(database: Database, *positions: int, status: str = DEAD) -> list[int]:
    async with database.begin() as connection:
        return [row["position"] for row in await DeadLetterTable(database).lock(connection, positions, status)]


async def test_only_what_has_the_status_is_locked_in_order(database: Database) -> None:
    for status in (DEAD, DISCARDED, DEAD, RETRY, DEAD):
        await park(database, status, None)

    assert await locked(database, 5, 4, 2, 1, 99) == [1, 5]
    assert await locked(database, 5, 4, 2, 1, status=DISCARDED) == [2]


@ON_SERVERS
async def test_what_somebody_else_has_locked_is_left_out_and_nobody_else_is(database: Database) -> None:
    for _ in range(3):
        await park(database, DEAD, None)

    async with database.begin() as connection:
        await DeadLetterTable(database).lock(connection, [2], DEAD)
        async with asyncio.timeout(5):
            assert await locked(database, 1, 2, 3) == [1, 3]


@ON_SERVERS
async def test_letters_are_locked_while_a_neighbour_is_handled(database: Database) -> None:
    await park(database)
    await park(database, DEAD, None)

    async with database.writer.begin() as handling:
        assert await ParkedTable(database).finish(handling, 1, 1)
        async with asyncio.timeout(5):
            assert await locked(database, 1, 2) == [2]


async def test_whole_letters_are_found_in_order(database: Database) -> None:
    for key in ("a", "b", "a", "a"):
        await park(database, DEAD, None, partition_key=key)
    table, row = DeadLetterTable(database), database.tables.parked.c

    assert [found["position"] for found in await table.find(row.partition_key == "a", limit=2)] == [1, 3]
    assert [position for position, _ in await table.states(row.partition_key == "a", row.position > 1)] == [3, 4]
    async with database.begin() as connection:
        assert [found["body"] for found in await table.whole(connection, [2, 1])] == [b"{}", b"{}"]
        assert await table.whole(connection, []) == []


async def test_equal_errors_are_counted_with_the_message_of_the_oldest(database: Database) -> None:
    for number, fingerprint in enumerate(("x", "y", "y", None, None, None)):
        await park(database, DEAD, None, fingerprint=fingerprint, error=str(number), error_type="E")
    await park(database, DEAD, None, fingerprint="y", subscriber_id="mail.other", error="6", error_type="E")
    await park(database, DISCARDED, None, fingerprint="y", error="7", error_type="E")

    groups = await DeadLetterTable(database).groups(database.tables.parked.c.status == DEAD)

    assert [(one["count"], one["fingerprint"], one["subscriber_id"], one["error"]) for one in groups] == [
        (3, None, WELCOME, "3"),
        (2, "y", WELCOME, "1"),
        (1, "y", "mail.other", "6"),
        (1, "x", WELCOME, "0"),
    ]


async def plan(database: Database, *due_at: datetime, status: str = BLOCKED) -> None:
    rows = [{"at_position": number, "to_status": status, "due_at": one} for number, one in enumerate(due_at, 1)]
    async with database.begin() as connection:
        await DeadLetterTable(database).try_again(connection, rows)


async def test_attempts_begin_anew_each_at_its_moment(database: Database, database_url: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for _ in range(3):
        await park(database, DEAD, None, attempts=5)
    await plan(database, now, now + HOUR, status=RETRY)

    rows = await stored(database_url, "parked")
    assert [(row["status"], row["attempts"], row["next_attempt_at"]) for row in rows] == [
        (RETRY, 0, now),
        (RETRY, 0, now + HOUR),
        (DEAD, 5, None),
    ]
    assert [row["died_at"] is None for row in rows] == [True, True, False]


@pytest.mark.parametrize("way", ["the next", "the first of its key", "all"])
async def test_what_has_a_moment_of_its_own_is_let_go_and_keeps_it(
    database: Database, database_url: str, way: str
) -> None:
    later, parked = datetime.now(UTC).replace(microsecond=0) + HOUR, ParkedTable(database)
    await park(database, DEAD, None)
    await plan(database, later)
    async with database.begin() as connection:
        if way == "the next":
            await parked.release_next(connection, WELCOME, "k")
    if way == "the first of its key":
        await parked.release_first([(WELCOME, "k")])
    if way == "all":
        await parked.unblock(WELCOME)

    (row,) = await stored(database_url, "parked")
    assert (row["status"], row["next_attempt_at"]) == (RETRY, later)
    assert await due(database) == []


async def test_of_many_keys_each_lets_go_what_nothing_stands_in_the_way_of(
    database: Database, database_url: str
) -> None:
    for key, status in (("a", BLOCKED), ("b", DEAD), ("a", BLOCKED), ("b", BLOCKED), ("c", BLOCKED), ("d", BLOCKED)):
        await park(database, status, None, partition_key=key)
    await ParkedTable(database).release_first((WELCOME, key) for key in "abc")

    assert await statuses(database_url) == [RETRY, DEAD, BLOCKED, BLOCKED, RETRY, BLOCKED]
    assert await due(database) == [1, 5]


async def test_where_the_dead_are_skipped_they_do_not_stand_in_the_way(database: Database, database_url: str) -> None:
    for subscriber_id in (WELCOME, "mail.other"):
        await park(database, DEAD, None, subscriber_id=subscriber_id)
        await park(database, BLOCKED, None, subscriber_id=subscriber_id)
    await ParkedTable(database).release_first([(WELCOME, "k"), ("mail.other", "k")], skipping={"mail.other"})

    assert await statuses(database_url) == [DEAD, BLOCKED, DEAD, RETRY]


async def test_a_decision_renews_the_age_and_removing_removes_nothing_else(
    database: Database, database_url: str
) -> None:
    for _ in range(4):
        await park(database, DEAD, None)
    table, parked = DeadLetterTable(database), database.tables.parked
    async with database.begin() as connection:
        await connection.execute(update(parked).values(died_at=1))
        await table.decide(connection, [2, 3], DISCARDED)
        await table.remove(connection, [1])

    rows = await stored(database_url, "parked")
    assert [(row["position"], row["status"]) for row in rows] == [(2, DISCARDED), (3, DISCARDED), (4, DEAD)]
    assert [row["died_at"] > datetime.now(UTC) - timedelta(minutes=1) for row in rows] == [True, True, False]
