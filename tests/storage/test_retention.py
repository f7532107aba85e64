"""Cleaning removes what has expired, in small batches, and never what is live, dead or still needed."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert

from mediator.operations.cleaning import Cleaner, RetentionSettings
from mediator.storage.database import Database
from mediator.storage.outbox import OutboxTable, insert_statement
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, RETRY
from mediator.storage.retention import purge_discarded, purge_inbox, purge_sent
from tests.storage.rows import execute, outbox_row, stored
from tests.support import AppFactory, module_of, quick_settings

DAY = timedelta(days=1)
LONG_AGO = 1


async def with_history(database: Database, count: int) -> None:
    async with database.begin() as connection:
        await connection.execute(insert_statement(database.tables), [outbox_row() for _ in range(count)])
    await OutboxTable(database).complete(list(range(1, count + 1)), keep_history=True)


async def with_inbox(database: Database, *identities: UUID, subscriber_id: str = "mail.welcome") -> None:
    rows = [{"subscriber_id": subscriber_id, "event_id": one, "payload_hash": b"h" * 16} for one in identities]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.inbox), rows)


async def with_parked(database: Database, identity: UUID, status: str, subscriber_id: str = "mail.welcome") -> None:
    values: dict[str, Any] = {
        "subscriber_id": subscriber_id,
        "event_id": identity,
        "status": status,
        "reason": "failed",
        "topic": "t",
        "headers": "{}",
        "body": b"{}",
    }
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked), [values])


async def test_history_goes_in_batches(database: Database, database_url: str) -> None:
    await with_history(database, 25)
    execute(database_url, "UPDATE mediator_sent SET sent_at = ?", LONG_AGO)

    assert [await purge_sent(database, DAY, 10) for _ in range(4)] == [10, 10, 5, 0]
    assert await stored(database_url, "sent") == []


async def test_history_that_is_young_stays(database: Database, database_url: str) -> None:
    await with_history(database, 3)
    execute(database_url, "UPDATE mediator_sent SET sent_at = ? WHERE rowid = 1", LONG_AGO)

    assert await purge_sent(database, DAY, 10) == 1
    assert len(await stored(database_url, "sent")) == 2


async def test_inbox_rows_go_when_their_reach_is_over(database: Database, database_url: str) -> None:
    old, young = uuid4(), uuid4()
    await with_inbox(database, old, young)
    execute(database_url, "UPDATE mediator_inbox SET processed_at = ? WHERE event_id = ?", LONG_AGO, old.bytes)

    assert await purge_inbox(database, DAY, 10) == 1
    assert [found["event_id"] for found in await stored(database_url, "inbox")] == [young]


@pytest.mark.parametrize("status", [RETRY, BLOCKED, DEAD, DISCARDED])
async def test_an_inbox_row_stays_while_something_is_parked_for_it(
    database: Database, database_url: str, status: str
) -> None:
    pinned, free = uuid4(), uuid4()
    await with_inbox(database, pinned, free)
    await with_inbox(database, pinned, subscriber_id="mail.other")
    await with_parked(database, pinned, status)
    execute(database_url, "UPDATE mediator_inbox SET processed_at = ?", LONG_AGO)

    assert await purge_inbox(database, DAY, 1) == 1
    assert await purge_inbox(database, DAY, 10) == 1
    assert [(found["subscriber_id"], found["event_id"]) for found in await stored(database_url, "inbox")] == [
        ("mail.welcome", pinned)
    ]


async def test_only_what_a_person_discarded_long_ago_goes(database: Database, database_url: str) -> None:
    for status in (RETRY, BLOCKED, DEAD, DISCARDED, DISCARDED):
        await with_parked(database, uuid4(), status)
    execute(database_url, "UPDATE mediator_parked SET parked_at = ?, died_at = ?", LONG_AGO, LONG_AGO)
    execute(database_url, "UPDATE mediator_parked SET died_at = 99999999999999 WHERE position = 5")

    assert await purge_discarded(database, DAY, 10) == 1
    assert [found["status"] for found in await stored(database_url, "parked")] == [RETRY, BLOCKED, DEAD, DISCARDED]


async def test_an_application_cleans_everything_that_has_expired_and_nothing_else(
    make_app: AppFactory, database_url: str
) -> None:
    settings = quick_settings(retention={"batch": 2, "every": timedelta(hours=1)})
    async with make_app(module_of("bank"), settings=settings) as app:
        database = app._started("the test").services[0].database
        await with_history(database, 5)
        async with database.begin() as connection:
            later = outbox_row(slot=-1, delay=3_600_000)
            await connection.execute(insert_statement(database.tables), [later])
        kept = uuid4()
        await with_parked(database, kept, DEAD)
        await with_inbox(database, kept, uuid4(), uuid4(), uuid4())
        execute(database_url, "UPDATE mediator_sent SET sent_at = ?", LONG_AGO)
        execute(database_url, "UPDATE mediator_inbox SET processed_at = ?", LONG_AGO)
        execute(database_url, "UPDATE mediator_outbox SET occurred_on = ?", LONG_AGO)
        execute(database_url, "UPDATE mediator_parked SET parked_at = ?, died_at = ?", LONG_AGO, LONG_AGO)

        assert await app.clean() == 8
        assert await app.clean() == 0

    assert [found["event_id"] for found in await stored(database_url, "outbox")] == [later["event_id"]]
    assert [found["event_id"] for found in await stored(database_url, "parked")] == [kept]
    assert [found["event_id"] for found in await stored(database_url, "inbox")] == [kept]


async def test_dead_letters_go_only_where_the_application_says_when(database: Database, database_url: str) -> None:
    for status in (RETRY, BLOCKED, DEAD, DEAD):
        await with_parked(database, uuid4(), status)
    execute(database_url, "UPDATE mediator_parked SET parked_at = ?, died_at = ?", LONG_AGO, LONG_AGO)
    execute(database_url, "UPDATE mediator_parked SET died_at = 99999999999999 WHERE position = 4")

    assert await Cleaner(database, RetentionSettings()).clean() == 0
    assert await Cleaner(database, RetentionSettings(dead=DAY)).clean() == 1
    assert [found["position"] for found in await stored(database_url, "parked")] == [1, 2, 4]


async def test_cleaning_leaves_the_writer_to_others_between_two_batches(database: Database, database_url: str) -> None:
    await with_history(database, 4)
    execute(database_url, "UPDATE mediator_sent SET sent_at = ?", LONG_AGO)

    assert await purge_sent(database, DAY, 2) == 2
    assert database.file is not None
    with closing(sqlite3.connect(database.file, timeout=0)) as other, other:
        other.execute("UPDATE mediator_meta SET value = value")
    assert await purge_sent(database, DAY, 2) == 2
