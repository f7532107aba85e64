"""Parked deliveries: of two runs of one retry only one can commit, and a key lets go one delivery at a time."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from mediator.storage.database import Database
from mediator.storage.inbox import InboxTable
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, MOST_SKIPPED, RETRY, ParkedTable
from tests.storage.drivers import EVERY_DRIVER, ON_SERVERS
from tests.storage.rows import stored

pytestmark = EVERY_DRIVER

HOUR, NOW = timedelta(hours=1), timedelta(0)
WELCOME = "mail.welcome"


def parked_values(**changes: Any) -> dict[str, Any]:
    values = {
        "subscriber_id": WELCOME,
        "event_id": uuid4(),
        "status": RETRY,
        "reason": "failed",
        "attempts": 1,
        "topic": "t",
        "partition_key": "k",
        "headers": "{}",
        "body": b"{}",
    }
    return {**values, **changes}


async def park(database: Database, status: str = RETRY, delay: timedelta | None = NOW, **changes: Any) -> None:
    async with database.begin() as connection:
        await ParkedTable(database).park(connection, parked_values(status=status, **changes), delay=delay)


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
    # What is due already is known; what is nobody's here, blocked or dead becomes due for others, or never.
    await park(database, delay=-HOUR)
    await park(database, delay=HOUR / 2, subscriber_id="mail.other")
    await park(database, BLOCKED, None)
    await park(database, DEAD, HOUR / 2)
    assert await parked.next_due_in(**arguments) is None
    await park(database, delay=2 * HOUR)
    await park(database, delay=HOUR)

    wait = await parked.next_due_in(**arguments)
    later = await parked.next_due_in(subscribers=[WELCOME], without_positions=[6])
    assert wait is not None
    assert timedelta(minutes=59) < wait <= HOUR
    assert later is not None
    assert HOUR < later <= 2 * HOUR


async def test_a_claim_counts_and_only_one_of_two_gets_it(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)

    assert await parked.claim(1, 1, HOUR)
    assert not await parked.claim(1, 1, HOUR)

    (row,) = await stored(database_url, "parked")
    assert row["attempts"] == 2
    assert row["next_attempt_at"] > datetime.now(UTC) + timedelta(minutes=59)
    assert await due(database) == []


@ON_SERVERS
async def test_of_many_that_claim_at_once_one_gets_it(database: Database, database_url: str) -> None:
    await park(database)
    parked = ParkedTable(database)

    claims = await asyncio.gather(*(parked.claim(1, 1, HOUR) for _ in range(8)))

    assert sorted(claims) == [False] * 7 + [True]
    assert (await stored(database_url, "parked"))[0]["attempts"] == 2


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


@ON_SERVERS
async def test_of_two_runs_that_finish_at_once_only_one_does(database: Database) -> None:
    await park(database)
    parked = ParkedTable(database)
    second_waits = asyncio.Event()

    async def second() -> bool:
        async with database.begin() as connection:
            second_waits.set()
            return await parked.finish(connection, 1, 1)

    async with asyncio.TaskGroup() as group, database.begin() as connection:
        assert await parked.finish(connection, 1, 1)
        late = group.create_task(second())
        await second_waits.wait()
        await asyncio.sleep(0.1)
    assert late.result() is False


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


async def history(url: str) -> list[tuple[int, str | None, str | None]]:
    (row,) = await stored(url, "parked")
    return [(one["number"], one["error_type"], one["error"]) for one in json.loads(row["history"] or "[]")]


FACTS: dict[str, Any] = {"reason": "failed", "error_type": "ValueError", "error": "no"}


async def test_what_is_parked_after_a_failure_knows_that_attempt(database: Database, database_url: str) -> None:
    await park(database, **FACTS)

    assert await history(database_url) == [(1, "ValueError", "no")]


async def test_what_was_not_tried_yet_knows_no_attempt(database: Database, database_url: str) -> None:
    await park(database, attempts=0, **FACTS)

    assert await history(database_url) == []


@pytest.mark.parametrize("gives_up", [False, True])
async def test_an_attempt_is_known_when_it_begins_and_completed_when_it_fails(
    database: Database, database_url: str, gives_up: bool
) -> None:
    await park(database, **FACTS)
    parked, before = ParkedTable(database), datetime.now(UTC) - HOUR
    await parked.claim(1, 1, HOUR)
    assert await history(database_url) == [(1, "ValueError", "no"), (2, None, None)]

    facts = {**FACTS, "error": "again" * 1_000}
    assert await (parked.die(1, 2, facts) if gives_up else parked.fail(1, 2, HOUR, facts))

    assert await history(database_url) == [(1, "ValueError", "no"), (2, "ValueError", ("again" * 1_000)[:500])]
    (row,) = await stored(database_url, "parked")
    moments = [datetime.fromisoformat(one["at"]) for one in json.loads(row["history"])]
    assert before < moments[0] <= moments[1] < before + 2 * HOUR
    assert row["error"] == "again" * 1_000


async def test_an_attempt_that_never_reported_stays_without_an_error(database: Database, database_url: str) -> None:
    await park(database, **FACTS)
    parked = ParkedTable(database)
    await parked.claim(1, 1, NOW)
    await parked.claim(1, 2, NOW)
    await parked.fail(1, 3, NOW, FACTS)

    assert await history(database_url) == [(1, "ValueError", "no"), (2, None, None), (3, "ValueError", "no")]


async def test_an_attempt_that_was_taken_back_never_was(database: Database, database_url: str) -> None:
    await park(database, **FACTS)
    parked = ParkedTable(database)
    await parked.claim(1, 1, NOW)
    await parked.unclaim(1, 2)

    assert await history(database_url) == [(1, "ValueError", "no")]


async def test_giving_up_outside_of_an_attempt_invents_none(database: Database, database_url: str) -> None:
    await park(database, **FACTS)
    await ParkedTable(database).die(1, 1, {**FACTS, "error": "unreadable by now"})

    assert await history(database_url) == [(1, "ValueError", "no")]


async def test_the_last_twenty_attempts_are_kept(database: Database, database_url: str) -> None:
    await park(database, **FACTS)
    parked = ParkedTable(database)
    for attempt in range(2, 31):
        await parked.claim(1, attempt - 1, NOW)
        await parked.fail(1, attempt, NOW, FACTS)

    assert [number for number, *_ in await history(database_url)] == list(range(11, 31))


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


@pytest.mark.parametrize(("status", "blocking"), [(RETRY, True), (BLOCKED, True), (DEAD, False), (DISCARDED, False)])
async def test_what_blocks_a_key_whose_dead_are_skipped(database: Database, status: str, blocking: bool) -> None:
    await park(database, status)
    await park(database, DEAD, None, partition_key="dead")
    parked = ParkedTable(database)
    async with database.begin() as connection:
        assert await parked.blocks(connection, WELCOME, "k", skips_dead=True) is blocking
        found = await parked.blocked_keys(connection, WELCOME, ["k", "dead"], skips_dead=True)
        assert found == ({"k"} if blocking else set())


async def test_what_is_skipped_is_named_by_key_the_oldest_first(database: Database) -> None:
    events = [uuid4() for _ in range(7)]
    for event_id, key, status in zip(events, "kjkkkjk", (DEAD, DEAD, RETRY, DISCARDED, DEAD, DEAD, DEAD), strict=True):
        await park(database, status, None, event_id=event_id, partition_key=key)
    await park(database, DEAD, None, subscriber_id="mail.other")
    parked = ParkedTable(database)

    async with database.begin() as connection:
        assert await parked.skipped(connection, WELCOME, ["k", "j", "l"]) == {
            "k": [events[0], events[2], events[4], events[6]],
            "j": [events[1], events[5]],
        }
        assert await parked.skipped(connection, WELCOME, ["k"], before=5) == {"k": [events[0], events[2]]}


async def test_of_many_that_are_skipped_the_oldest_of_each_key_are_named(database: Database) -> None:
    rows = [parked_values(status=DEAD, partition_key=key) for _ in range(MOST_SKIPPED + 5) for key in "kj"]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked), rows)
        skipped = await ParkedTable(database).skipped(connection, WELCOME, ["k", "j"])

    assert skipped["k"] == [row["event_id"] for row in rows if row["partition_key"] == "k"][:MOST_SKIPPED]
    assert len(skipped["j"]) == MOST_SKIPPED


@pytest.mark.parametrize(
    ("skips_dead", "before", "after"),
    [
        (False, [RETRY, BLOCKED], [DEAD, BLOCKED]),
        (True, [RETRY, BLOCKED, BLOCKED], [DEAD, RETRY, BLOCKED]),
        (True, [RETRY, RETRY, BLOCKED], [DEAD, RETRY, BLOCKED]),
        (True, [RETRY], [DEAD]),
    ],
)
async def test_what_is_behind_one_that_dies_goes_on_if_that_is_skipped(
    database: Database, database_url: str, skips_dead: bool, before: list[str], after: list[str]
) -> None:
    for status in before:
        await park(database, status)
    await park(database, BLOCKED, None, partition_key="other")
    await park(database, RETRY, partition_key=None)
    parked = ParkedTable(database)

    assert await parked.die(1, 1, FACTS, skips_dead=skips_dead)
    assert await parked.die(len(before) + 2, 1, FACTS, skips_dead=skips_dead)
    assert not await parked.die(1, 1, FACTS, skips_dead=skips_dead)
    assert await statuses(database_url) == [*after, BLOCKED, DEAD]


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


async def test_only_what_is_blocked_is_let_go_when_a_subscriber_keeps_no_order_any_more(
    database: Database, database_url: str
) -> None:
    for status in (DEAD, BLOCKED, BLOCKED):
        await park(database, status, None)
    await park(database, BLOCKED, None, subscriber_id="mail.other")
    await ParkedTable(database).unblock(WELCOME)

    assert await statuses(database_url) == [DEAD, RETRY, RETRY, BLOCKED]
    assert await due(database) == [2, 3]


@ON_SERVERS
async def test_letting_go_waits_for_nothing_that_is_being_parked(database: Database, database_url: str) -> None:
    # What waits for the others' locks may be waited for by them: MariaDB ended starting processes as deadlocks.
    await park(database, BLOCKED, None)
    async with database.writer.connect() as other:
        await other.execute(insert(database.tables.parked), [parked_values(status=BLOCKED)])
        async with asyncio.timeout(5):
            await ParkedTable(database).unblock(WELCOME)
        await other.commit()

    assert await statuses(database_url) == [RETRY, BLOCKED]


async def test_a_renamed_subscriber_takes_over_what_is_parked(database: Database, database_url: str) -> None:
    await park(database, subscriber_id="mail.former")
    await park(database, subscriber_id="mail.other")
    await ParkedTable(database).rename_subscriber("mail.former", WELCOME)

    assert [row["subscriber_id"] for row in await stored(database_url, "parked")] == [WELCOME, "mail.other"]


@ON_SERVERS
async def test_several_processes_may_rename_a_subscriber_at_once(database: Database, database_url: str) -> None:
    events = [uuid4() for _ in range(500)]
    seen = [{"subscriber_id": "mail.former", "event_id": one, "payload_hash": b"h" * 16} for one in events]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.inbox), seen)
        rows = [parked_values(subscriber_id="mail.former", event_id=one) for one in reversed(events)]
        await connection.execute(insert(database.tables.parked), rows)

    await asyncio.gather(*(ParkedTable(database).rename_subscriber("mail.former", WELCOME) for _ in range(3)))

    assert {row["subscriber_id"] for row in await stored(database_url, "parked")} == {WELCOME}
    known = [row["event_id"] for row in await stored(database_url, "inbox") if row["subscriber_id"] == WELCOME]
    assert sorted(known) == sorted(events)


async def test_what_is_parked_under_both_names_stays_under_the_new_one(database: Database, database_url: str) -> None:
    twice, once = uuid4(), uuid4()
    for identity in (twice, once):
        await park(database, RETRY, subscriber_id="mail.former", event_id=identity)
    await park(database, DEAD, None, event_id=twice)
    async with database.begin() as connection:
        for name in ("mail.former", WELCOME):
            await InboxTable(database.tables).claim(connection, name, (), twice, b"h" * 16)
    await ParkedTable(database).rename_subscriber("mail.former", WELCOME)

    left = [(row["subscriber_id"], row["event_id"], row["status"]) for row in await stored(database_url, "parked")]
    assert left == [(WELCOME, once, RETRY), (WELCOME, twice, DEAD)]


async def test_counts_are_by_subscriber_and_status(database: Database) -> None:
    for status in (RETRY, RETRY, DEAD):
        await park(database, status)
    async with database.read() as connection:
        counts = await ParkedTable(database).counts(connection)

    assert counts == {(WELCOME, RETRY): 2, (WELCOME, DEAD): 1}
