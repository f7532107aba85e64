"""Blocked deliveries that nothing stands in the way of any more: they are let go, the others stay where they are."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, insert, text

from mediator.storage.database import Database
from mediator.storage.inbox import InboxTable
from mediator.storage.parked import BLOCKED, DEAD, RETRY, ParkedTable
from tests.storage.drivers import ON_POSTGRESQL
from tests.storage.rows import stored
from tests.storage.test_parked import WELCOME, due, park, parked_values, statuses

pytestmark = pytest.mark.every_database
HOUR = timedelta(hours=1)


async def test_what_was_parked_behind_a_delivery_that_is_gone_is_let_go(database: Database, database_url: str) -> None:
    await park(database, BLOCKED, None)
    await park(database, BLOCKED, None)

    assert await ParkedTable(database).release_orphans([WELCOME]) == 1
    assert await statuses(database_url) == [RETRY, BLOCKED]


@pytest.mark.parametrize(("status", "delay"), [(RETRY, HOUR), (DEAD, None)])
async def test_what_waits_behind_something_goes_on_waiting(
    database: Database, database_url: str, status: str, delay: timedelta | None
) -> None:
    await park(database, status, delay)
    await park(database, BLOCKED, None)

    assert await ParkedTable(database).release_orphans([WELCOME]) == 0
    assert await statuses(database_url) == [status, BLOCKED]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([DEAD, BLOCKED, BLOCKED], [DEAD, RETRY, BLOCKED]),
        ([DEAD, BLOCKED, DEAD, BLOCKED], [DEAD, RETRY, DEAD, BLOCKED]),
        ([DEAD, RETRY, BLOCKED], [DEAD, RETRY, BLOCKED]),
    ],
)
async def test_what_waits_behind_the_dead_is_let_go_for_those_who_skip_them(
    database: Database, database_url: str, before: list[str], after: list[str]
) -> None:
    for status in before:
        await park(database, status, None)

    assert await ParkedTable(database).release_orphans([WELCOME], skips_dead=True) == (before != after)
    assert await statuses(database_url) == after


async def test_other_keys_and_other_subscribers_do_not_stand_in_the_way(database: Database) -> None:
    await park(database, RETRY, HOUR, partition_key="another")
    await park(database, RETRY, HOUR, subscriber_id="mail.other")
    await park(database, BLOCKED, None)

    assert await ParkedTable(database).release_orphans([WELCOME]) == 1
    assert await due(database) == [3]


async def test_each_key_lets_its_first_go(database: Database, database_url: str) -> None:
    for key in ("a", "b", "a", "b"):
        await park(database, BLOCKED, None, partition_key=key)
    await park(database, DEAD, None, partition_key="c")
    await park(database, BLOCKED, None, partition_key="c")

    assert await ParkedTable(database).release_orphans([WELCOME], at_most=1) == 1
    assert await ParkedTable(database).release_orphans([WELCOME]) == 1
    assert await statuses(database_url) == [RETRY, RETRY, BLOCKED, BLOCKED, DEAD, BLOCKED]


@ON_POSTGRESQL
async def test_what_is_looked_at_does_not_grow_with_the_square_of_what_waits(database: Database) -> None:
    count = 2_000
    rows = [parked_values(status=DEAD if number == 0 else BLOCKED) for number in range(count)]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked), rows)
    async with database.read() as connection:
        await connection.execute(text(f"ANALYZE {database.tables.parked.name}"))
    explained = list[Any]()

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if not statement.startswith("EXPLAIN"):
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plan = cursor.fetchone()[0]
            explained.append((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])

    event.listen(database._own_reader.sync_engine, "before_cursor_execute", explain)
    assert await ParkedTable(database).release_orphans([WELCOME]) == 0

    (plan,) = explained
    assert looked_at(plan) < 20 * count


def looked_at(plan: Any) -> float:
    """The rows that a plan read and threw away, over all its steps."""
    removed = sum(value for name, value in plan.items() if name.startswith("Rows Removed by"))
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return float(own + sum(looked_at(step) for step in plan.get("Plans", ())))


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
async def test_a_delivery_that_is_being_handled_is_not_due_for_others(database: Database) -> None:
    parked = ParkedTable(database)
    await park(database, delay=-HOUR)

    async with database.writer.begin() as handling:
        assert await parked.finish(handling, 1, 1)
        assert await due(database) == []
        assert not await parked.claim(1, 1, HOUR)
        await handling.rollback()

    assert await due(database) == [1]
    assert await parked.claim(1, 1, HOUR)


async def test_the_inbox_rows_of_what_is_parked_are_known_under_both_names(
    database: Database, database_url: str
) -> None:
    identity, handled = uuid4(), uuid4()
    async with database.begin() as connection:
        for one in (identity, handled):
            await InboxTable(database.tables).claim(connection, "mail.former", (), one, b"h" * 16)
    await park(database, DEAD, None, subscriber_id="mail.former", event_id=identity)

    for _ in range(2):
        await ParkedTable(database).rename_subscriber("mail.former", WELCOME)

    rows = {(row["subscriber_id"], row["event_id"]) for row in await stored(database_url, "inbox")}
    assert rows == {("mail.former", identity), ("mail.former", handled), (WELCOME, identity)}
