"""Statements on what is scheduled: let go once it is due, cancelled and given another time while it waits."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, OutboxTable
from mediator.storage.scheduled import Schedule
from tests.storage.drivers import EVERY_DRIVER, ON_MYSQL, ON_SERVERS
from tests.storage.rows import outbox_row, stored
from tests.storage.test_outbox import HOUR, LONG_AGO, ids, insert, positions

pytestmark = EVERY_DRIVER


async def cancel(database: Database, event_id: UUID) -> bool:
    async with database.writer.begin() as connection:
        return await Schedule(database).cancel(connection, event_id)


async def reschedule(
    database: Database, event_id: UUID, delay: timedelta | None = None, at: datetime | None = None
) -> Collection[int]:
    async with database.writer.begin() as connection:
        return await Schedule(database).reschedule(connection, event_id, delay=delay, at=at)


async def waiting(database_url: str) -> list[Any]:
    """The bodies of what is scheduled, in the order of its time."""
    rows = [row for row in await stored(database_url, "outbox") if row["slot"] < 0]
    return [row["body"] for row in sorted(rows, key=lambda row: row["due_at"])]


async def test_what_has_become_due_is_let_go_in_the_order_of_its_time(database: Database, database_url: str) -> None:
    rows = [outbox_row(slot=-1, delay=delay, body=b"%d" % delay) for delay in (HOUR, -3_000, -1_000, -2_000)]
    other, now = outbox_row(slot=-3, delay=LONG_AGO), outbox_row()
    await insert(database, *rows, other, now)
    schedule, outbox = Schedule(database), OutboxTable(database)

    assert set(await schedule.release(range(SLOTS), 100)) == {0, 2}
    assert await schedule.release(range(SLOTS), 100) == set()

    assert await ids(outbox) == [now["event_id"], *(rows[number]["event_id"] for number in (1, 3, 2))]
    assert await ids(outbox, 2) == [other["event_id"]]
    (waiting,) = (row for row in await stored(database_url, "outbox") if row["slot"] < 0)
    assert waiting["event_id"] == rows[0]["event_id"]


async def test_what_is_let_go_stays_what_it_was(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(slot=-1, delay=LONG_AGO, partition_key="k", headers='{"a": 1}', attempts=2))
    (before,) = await stored(database_url, "outbox")
    await Schedule(database).release([0], 1)

    (after,) = await stored(database_url, "outbox")
    changed = {name for name in before if before[name] != after[name]}
    assert changed - {"xid"} == {"slot", "position"}
    assert after["position"] > before["position"]


async def test_only_slots_that_are_relayed_here_let_go_and_only_so_many_at_once(database: Database) -> None:
    await insert(database, *(outbox_row(slot=slot, delay=LONG_AGO) for slot in (-1, -1, -1, -2)))
    schedule, outbox = Schedule(database), OutboxTable(database)

    assert await schedule.release([1, 5], 2) == {1}
    assert [len(await positions(outbox, slot=slot)) for slot in (0, 1)] == [0, 1]
    assert await schedule.release([0], 2) == {0}
    assert len(await positions(outbox)) == 2


async def test_of_two_that_let_go_at_once_each_row_goes_once(database: Database, database_url: str) -> None:
    await insert(database, *(outbox_row(slot=-1, delay=LONG_AGO) for _ in range(20)))
    schedules = [Schedule(database) for _ in range(4)]

    async with asyncio.TaskGroup() as group:
        for schedule in schedules * 3:
            group.create_task(schedule.release([0], 3))
    await schedules[0].release([0], 20)

    rows = await stored(database_url, "outbox")
    assert [row["slot"] for row in rows] == [0] * 20
    assert len({row["event_id"] for row in rows}) == 20


async def test_what_has_a_time_is_due_then_and_not_before(database: Database, database_url: str) -> None:
    now = datetime.now(UTC)
    rows = [outbox_row(slot=-1, at=now + timedelta(seconds=seconds)) for seconds in (3600, -1, -3600)]
    await insert(database, *rows, outbox_row(slot=-2, delay=HOUR))

    await Schedule(database).release(range(SLOTS), 10)

    assert await ids(OutboxTable(database)) == [rows[2]["event_id"], rows[1]["event_id"]]
    by_time, by_delay = [row["due_at"] for row in await stored(database_url, "outbox") if row["slot"] < 0]
    assert abs(by_time - rows[0]["at"]) < timedelta(milliseconds=1)
    assert timedelta(0) <= by_delay - by_time < timedelta(minutes=1)


async def test_what_is_cancelled_is_gone_and_nothing_else(database: Database, database_url: str) -> None:
    rows = [outbox_row(slot=-1, delay=HOUR, body=body) for body in (b"a", b"b", b"c")]
    await insert(database, *rows)

    assert await cancel(database, rows[1]["event_id"])
    assert not await cancel(database, rows[1]["event_id"])
    assert not await cancel(database, uuid4())

    assert await waiting(database_url) == [b"a", b"c"]


@pytest.mark.parametrize("row", [outbox_row(), outbox_row(slot=-1, delay=LONG_AGO)], ids=["never", "no longer"])
async def test_what_is_not_scheduled_stays_as_it_is(database: Database, database_url: str, row: dict[str, Any]) -> None:
    await insert(database, row)
    await Schedule(database).release([0], 10)
    before = await stored(database_url, "outbox")

    assert not await cancel(database, row["event_id"])
    assert not await reschedule(database, row["event_id"], timedelta(hours=1))

    assert await stored(database_url, "outbox") == before


async def test_another_time_changes_nothing_else(database: Database, database_url: str) -> None:
    rows = [outbox_row(slot=slot, delay=HOUR) for slot in (-1, -2)]
    await insert(database, *rows)
    before = await stored(database_url, "outbox")
    at = datetime(2100, 1, 1, tzinfo=UTC)

    assert await reschedule(database, rows[0]["event_id"], at=at) == [-1]
    assert await reschedule(database, rows[1]["event_id"], timedelta(hours=2)) == [-2]
    assert not await reschedule(database, uuid4(), at=at)

    after = await stored(database_url, "outbox")
    assert [{**row, "due_at": None} for row in after] == [{**row, "due_at": None} for row in before]
    assert after[0]["due_at"] == at
    assert timedelta(minutes=59) < after[1]["due_at"] - before[1]["due_at"] < timedelta(minutes=61)


async def test_an_event_that_was_published_twice_is_cancelled_twice(database: Database, database_url: str) -> None:
    identity = uuid4()
    await insert(database, *(outbox_row(slot=slot, delay=HOUR, event_id=identity) for slot in (-1, -1, -4)))

    assert sorted(await reschedule(database, identity, timedelta(0))) == [-4, -1]
    assert await cancel(database, identity)

    assert await waiting(database_url) == []


@ON_SERVERS
async def test_what_somebody_is_about_to_cancel_is_passed_over(database: Database) -> None:
    one, other = rows = [outbox_row(slot=-1, delay=LONG_AGO) for _ in range(2)]
    await insert(database, *rows)
    schedule, outbox = Schedule(database), OutboxTable(database)

    async with database.writer.connect() as connection:
        assert await schedule.cancel(connection, one["event_id"])
        await schedule.release([0], 10)
        assert await ids(outbox) == [other["event_id"]]
        await connection.rollback()
    await schedule.release([0], 10)

    assert await ids(outbox) == [other["event_id"], one["event_id"]]


@ON_SERVERS
async def test_what_is_let_go_at_that_moment_is_not_cancelled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = outbox_row(slot=-1, delay=LONG_AGO)
    await insert(database, row)
    begin, moved, may_commit = database.begin, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def hesitant() -> AsyncIterator[AsyncConnection]:
        async with begin() as connection:
            yield connection
            moved.set()
            await may_commit.wait()

    monkeypatch.setattr(database, "begin", hesitant)
    async with asyncio.TaskGroup() as group:
        group.create_task(Schedule(database).release([0], 10))
        await moved.wait()
        cancelling = group.create_task(cancel(database, row["event_id"]))
        rescheduling = group.create_task(reschedule(database, row["event_id"], timedelta(hours=1)))
        early, _ = await asyncio.wait([cancelling, rescheduling], timeout=0.3)
        may_commit.set()

    assert early == set()
    assert not cancelling.result()
    assert not rescheduling.result()
    assert await ids(OutboxTable(database)) == [row["event_id"]]


@ON_MYSQL
async def test_what_was_put_off_since_the_look_is_not_let_go(database: Database) -> None:
    put_off, due = rows = [outbox_row(slot=-1, delay=delay) for delay in (HOUR, LONG_AGO)]
    await insert(database, *rows)
    schedule, row = Schedule(database), database.tables.outbox.c
    # What a look that came too early would have found.
    schedule._due = select(row.position).where(row.slot == -1)

    await schedule.release([0], 10)

    assert await ids(OutboxTable(database)) == [due["event_id"]]
    assert await cancel(database, put_off["event_id"])


async def test_what_is_scheduled_is_found_by_its_index(database: Database) -> None:
    rows = [outbox_row(slot=-1 - number % SLOTS, delay=HOUR) for number in range(200)]
    await insert(database, *rows)
    found: list[tuple[str, Any]] = []

    def executed(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        found.append((statement, parameters))

    async with database.writer.begin() as connection:
        if database.dialect == "postgresql":
            # Of so few rows it would read all.
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        event.listen(database.writer.sync_engine, "before_cursor_execute", executed)
        await Schedule(database).cancel(connection, rows[100]["event_id"])
        statement, parameters = found[0]
        explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        plan = (await connection.exec_driver_sql(f"{explain} {statement}", parameters)).all()

    assert "mediator_outbox_scheduled" in str(plan)
