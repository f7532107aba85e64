"""Cleaning removes what has expired, in small batches, and never what is live, dead or still needed."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import ColumnElement, insert, update

from mediator.operations.cleaning import Cleaner, RetentionSettings
from mediator.storage.database import Database
from mediator.storage.outbox import OutboxTable, insert_statement
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, RETRY
from mediator.storage.retention import purge_discarded, purge_inbox, purge_locks, purge_sent
from tests.storage.drivers import ON_MYSQL, ON_SERVERS, ON_SQLITE
from tests.storage.rows import execute, outbox_row, stored
from tests.support import AppFactory, module_of, quick_settings

pytestmark = pytest.mark.every_database

DAY = timedelta(days=1)
LONG_AGO, FAR_AWAY = 1, 99_999_999_999_999


def changed(database: Database, url: str, table: str, *conditions: ColumnElement[bool], **values: int) -> None:
    """Rows of a table get other moments."""
    execute(url, update(getattr(database.tables, table)).where(*conditions).values(**values))


async def with_history(database: Database, count: int) -> None:
    async with database.begin() as connection:
        await connection.execute(insert_statement(database.tables), [outbox_row() for _ in range(count)])
    await OutboxTable(database).complete([(0, number + 1) for number in range(count)], keep_history=True)


async def with_inbox(database: Database, *identities: UUID, subscriber_id: str = "mail.welcome") -> None:
    rows = [{"subscriber_id": subscriber_id, "event_id": one, "payload_hash": b"h" * 16} for one in identities]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.inbox), rows)


async def with_parked(database: Database, identity: UUID, status: str, subscriber_id: str = "mail.welcome") -> None:
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked), [parked_row(identity, status, subscriber_id)])


def parked_row(identity: UUID, status: str, subscriber_id: str = "mail.welcome") -> dict[str, Any]:
    facts = {"reason": "failed", "topic": "t", "headers": "{}", "body": b"{}"}
    return {"subscriber_id": subscriber_id, "event_id": identity, "status": status, **facts}


async def test_history_goes_in_batches(database: Database, database_url: str) -> None:
    await with_history(database, 25)
    changed(database, database_url, "sent", sent_at=LONG_AGO)

    assert [await purge_sent(database, DAY, 10) for _ in range(4)] == [10, 10, 5, 0]
    assert await stored(database_url, "sent") == []


async def test_history_that_is_young_stays(database: Database, database_url: str) -> None:
    await with_history(database, 3)
    first = (await stored(database_url, "sent"))[0]["event_id"]
    changed(database, database_url, "sent", database.tables.sent.c.event_id == first, sent_at=LONG_AGO)

    assert await purge_sent(database, DAY, 10) == 1
    assert len(await stored(database_url, "sent")) == 2


async def test_inbox_rows_go_when_their_reach_is_over(database: Database, database_url: str) -> None:
    old, young = uuid4(), uuid4()
    await with_inbox(database, old, young)
    changed(database, database_url, "inbox", database.tables.inbox.c.event_id == old, processed_at=LONG_AGO)

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
    changed(database, database_url, "inbox", processed_at=LONG_AGO)

    assert await purge_inbox(database, DAY, 1) == 1
    assert await purge_inbox(database, DAY, 10) == 1
    assert [(found["subscriber_id"], found["event_id"]) for found in await stored(database_url, "inbox")] == [
        ("mail.welcome", pinned)
    ]


async def test_only_what_a_person_discarded_long_ago_goes(database: Database, database_url: str) -> None:
    for status in (RETRY, BLOCKED, DEAD, DISCARDED, DISCARDED):
        await with_parked(database, uuid4(), status)
    changed(database, database_url, "parked", parked_at=LONG_AGO, died_at=LONG_AGO)
    changed(database, database_url, "parked", database.tables.parked.c.position == 5, died_at=FAR_AWAY)

    assert await purge_discarded(database, DAY, 10) == 1
    assert [found["status"] for found in await stored(database_url, "parked")] == [RETRY, BLOCKED, DEAD, DISCARDED]


async def test_an_application_cleans_everything_that_has_expired_and_nothing_else(
    make_app: AppFactory, database_url: str
) -> None:
    settings = quick_settings(retention={"batch": 2})
    # One that does not relay does not clean in the background.
    async with make_app(module_of("bank"), settings=settings, roles=["publish"]) as app:
        database = app._started("the test").services[0].database
        await with_history(database, 5)
        async with database.begin() as connection:
            later = outbox_row(slot=-1, delay=3_600_000)
            await connection.execute(insert_statement(database.tables), [later])
        kept = uuid4()
        await with_parked(database, kept, DEAD)
        await with_inbox(database, kept, uuid4(), uuid4(), uuid4())
        changed(database, database_url, "sent", sent_at=LONG_AGO)
        changed(database, database_url, "inbox", processed_at=LONG_AGO)
        changed(database, database_url, "outbox", occurred_on=LONG_AGO)
        changed(database, database_url, "parked", parked_at=LONG_AGO, died_at=LONG_AGO)

        assert await app.clean() == 8
        assert await app.clean() == 0

    assert [found["event_id"] for found in await stored(database_url, "outbox")] == [later["event_id"]]
    assert [found["event_id"] for found in await stored(database_url, "parked")] == [kept]
    assert [found["event_id"] for found in await stored(database_url, "inbox")] == [kept]


async def test_dead_letters_go_only_where_the_application_says_when(database: Database, database_url: str) -> None:
    for status in (RETRY, BLOCKED, DEAD, DEAD):
        await with_parked(database, uuid4(), status)
    changed(database, database_url, "parked", parked_at=LONG_AGO, died_at=LONG_AGO)
    changed(database, database_url, "parked", database.tables.parked.c.position == 4, died_at=FAR_AWAY)

    assert await Cleaner(database, RetentionSettings()).clean() == 0
    assert await Cleaner(database, RetentionSettings(dead=DAY)).clean() == 1
    assert [found["position"] for found in await stored(database_url, "parked")] == [1, 2, 4]


@ON_SQLITE
async def test_cleaning_leaves_the_writer_to_others_between_two_batches(database: Database, database_url: str) -> None:
    await with_history(database, 4)
    changed(database, database_url, "sent", sent_at=LONG_AGO)

    assert await purge_sent(database, DAY, 2) == 2
    assert database.file is not None
    with closing(sqlite3.connect(database.file, timeout=0)) as other, other:
        other.execute("UPDATE mediator_meta SET value = value")
    assert await purge_sent(database, DAY, 2) == 2


@ON_SERVERS
async def test_two_processes_that_clean_at_once_do_not_stand_in_each_others_way(
    database: Database, database_url: str
) -> None:
    await with_history(database, 60)
    changed(database, database_url, "sent", sent_at=LONG_AGO)

    async def clean() -> int:
        return sum([await purge_sent(database, DAY, 5) for _ in range(16)])

    assert sum(await asyncio.gather(clean(), clean(), clean())) == 60
    assert await stored(database_url, "sent") == []


async def test_a_delivery_that_is_parked_while_its_inbox_row_expires_keeps_it(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = uuid4()
    await with_inbox(database, identity)
    changed(database, database_url, "inbox", processed_at=LONG_AGO)
    begin = database.begin

    def parked_meanwhile() -> Any:
        monkeypatch.undo()
        execute(database_url, insert(database.tables.parked).values(parked_row(identity, RETRY)))
        return begin()

    monkeypatch.setattr(database, "begin", parked_meanwhile)

    assert await purge_inbox(database, DAY, 10) == 0
    assert len(await stored(database_url, "inbox")) == 1


@ON_MYSQL
async def test_keys_of_commands_go_when_nobody_has_needed_them_for_long(database: Database, database_url: str) -> None:
    locks = database.tables.locks
    rows = [{"name": name, "locked_at": LONG_AGO} for name in ("a", "b", "c", "held")] + [{"name": "young"}]
    async with database.begin() as connection:
        for row in rows:
            await connection.execute(insert(locks).values(row))

    async with database.writer.begin() as holder:
        await holder.execute(locks.select().where(locks.c.name == "held").with_for_update())
        assert [await purge_locks(database, DAY, 2) for _ in range(3)] == [2, 1, 0]
    assert {row["name"] for row in await stored(database_url, "locks")} == {"held", "young"}


@pytest.mark.databases("sqlite", "postgresql")
async def test_where_keys_are_not_kept_there_is_nothing_to_clean(database: Database) -> None:
    assert await purge_locks(database, DAY, 10) == 0
