"""Parked deliveries: of two runs of one retry only one can commit, and a key lets go one delivery at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from mediator.storage.database import Database
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, RETRY, ParkedTable
from tests.storage.rows import stored

HOUR, NOW = timedelta(hours=1), timedelta(0)
WELCOME = "mail.welcome"


async def park(database: Database, status: str = RETRY, delay: timedelta | None = NOW, **changes: Any) -> None:
    values = {
        "subscriber_id": WELCOME,
        "event_id": uuid4(),
        "status": status,
        "reason": "failed",
        "attempts": 1,
        "topic": "t",
        "partition_key": "k",
        "headers": "{}",
        "body": b"{}",
    }
    async with database.begin() as connection:
        await ParkedTable(database).park(connection, {**values, **changes}, delay=delay)


async def due(database: Database, at_most: int = 10, without: tuple[int, ...] = ()) -> list[int]:
    rows = await ParkedTable(database).due(at_most, subscribers=[WELCOME], without_positions=without)
    return [row["position"] for row in rows]


async def statuses(url: str) -> list[str]:
    return [row["status"] for row in await stored(url, "parked")]


async def test_only_retries_that_are_due_are_found_the_longest_waiting_first(database: Database) -> None:
    await park(database, delay=-NOW)
    await park(database, delay=HOUR)
    await park(database, delay=-HOUR)
    await park(database, BLOCKED, None)
    await park(database, DEAD, None)
    await park(database, delay=-HOUR, subscriber_id="mail.other")

    assert await due(database) == [3, 1]
    assert await due(database, at_most=1) == [3]
    assert await due(database, without=(3,)) == [1]


async def test_it_tells_how_long_until_the_next_is_due(database: Database) -> None:
    parked = ParkedTable(database)
    arguments: dict[str, Any] = {"subscribers": [WELCOME], "without_positions": ()}
    assert await parked.next_due_in(**arguments) is None
    await park(database, delay=HOUR)
    wait = await parked.next_due_in(**arguments)
    await park(database, delay=-HOUR)

    assert wait is not None
    assert timedelta(minutes=59) < wait <= HOUR
    assert await parked.next_due_in(**arguments) == timedelta(0)


async def test_a_claim_counts_and_only_one_of_two_gets_it(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)

    assert await parked.claim(1, 1, HOUR)
    assert not await parked.claim(1, 1, HOUR)

    (row,) = await stored(database_url, "parked")
    assert row["attempts"] == 2
    assert row["next_attempt_at"] > datetime.now(UTC) + timedelta(minutes=59)
    assert await due(database) == []


async def test_a_claim_can_be_taken_back(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)
    await parked.claim(1, 1, HOUR)
    await parked.unclaim(1, 2)

    assert (await stored(database_url, "parked"))[0]["attempts"] == 1
    assert await due(database) == [1]


async def test_finishing_needs_the_number_that_was_claimed(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)
    async with database.begin() as connection:
        assert not await parked.finish(connection, 1, 2)
        assert await parked.finish(connection, 1, 1)
        assert not await parked.finish(connection, 1, 1)

    assert await stored(database_url, "parked") == []


async def test_a_failure_keeps_its_facts_until_the_next_attempt(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)

    assert await parked.fail(1, 1, HOUR, {"reason": "failed", "error": "no", "error_type": "ValueError"})
    assert not await parked.fail(1, 9, HOUR, {"error": "of an older run"})

    (row,) = await stored(database_url, "parked")
    assert (row["status"], row["error"], row["error_type"], row["died_at"]) == (RETRY, "no", "ValueError", None)


async def test_what_dies_is_not_tried_any_more(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)

    assert await parked.die(1, 1, {"error": "no"})
    assert not await parked.die(1, 1, {"error": "again"})

    (row,) = await stored(database_url, "parked")
    assert (row["status"], row["next_attempt_at"], row["error"]) == (DEAD, None, "no")
    assert row["died_at"] is not None
    assert await due(database) == []


async def test_an_event_is_parked_once_for_a_subscriber(database: Database) -> None:
    identity = uuid4()
    await park(database, event_id=identity)
    await park(database, event_id=identity, subscriber_id="mail.other")

    with pytest.raises(IntegrityError):
        await park(database, event_id=identity)


@pytest.mark.parametrize(("status", "blocking"), [(RETRY, True), (BLOCKED, True), (DEAD, True), (DISCARDED, False)])
async def test_what_blocks_its_key(database: Database, status: str, blocking: bool) -> None:
    await park(database, status)
    parked = ParkedTable(database)
    async with database.begin() as connection:
        assert await parked.blocks(connection, WELCOME, "k") is blocking
        assert not await parked.blocks(connection, WELCOME, "other")
        assert not await parked.blocks(connection, "mail.other", "k")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([BLOCKED, BLOCKED], [RETRY, BLOCKED]),
        ([RETRY, BLOCKED], [RETRY, BLOCKED]),
        ([DEAD, BLOCKED], [DEAD, BLOCKED]),
        ([DISCARDED, BLOCKED, BLOCKED], [DISCARDED, RETRY, BLOCKED]),
        ([], []),
    ],
)
async def test_a_key_lets_go_one_at_a_time(
    database: Database, database_url: str, before: list[str], after: list[str]
) -> None:
    for status in before:
        await park(database, status, None)
    await park(database, BLOCKED, None, partition_key="other")
    async with database.begin() as connection:
        await ParkedTable(database).release_next(connection, WELCOME, "k")

    assert await statuses(database_url) == [*after, BLOCKED]


async def test_a_renamed_subscriber_takes_over_what_is_parked(database: Database, database_url: str) -> None:
    await park(database, subscriber_id="mail.former")
    await park(database, subscriber_id="mail.other")
    await ParkedTable(database).rename_subscriber("mail.former", WELCOME)

    assert [row["subscriber_id"] for row in await stored(database_url, "parked")] == [WELCOME, "mail.other"]


async def test_counts_are_by_subscriber_and_status(database: Database) -> None:
    for status in (RETRY, RETRY, DEAD):
        await park(database, status)
    async with database.read() as connection:
        counts = await ParkedTable(database).counts(connection)

    assert counts == {(WELCOME, RETRY): 2, (WELCOME, DEAD): 1}
