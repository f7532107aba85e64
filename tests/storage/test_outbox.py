"""Statements on the outbox: selected by state, removed exactly, remembered once, whoever commits first."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, func, select, text, update
from sqlalchemy.exc import DBAPIError

from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, Key, OutboxInsert, OutboxTable, key_of, slot_of
from tests.storage.drivers import EVERY_DRIVER, ON_MYSQL, ON_POSTGRESQL, ON_SERVERS
from tests.storage.rows import execute, outbox_row, stored

pytestmark = EVERY_DRIVER

HOUR, NOW, LONG_AGO = 3_600_000, 0, -3_600_000


async def insert(database: Database, *rows: dict[str, Any]) -> None:
    async with database.begin() as connection:
        await OutboxInsert(database.tables).execute(connection, rows)


async def positions(
    outbox: OutboxTable, at_most: int = 100, slot: int = 0, without: Collection[Key] = (), keys: Collection[str] = ()
) -> list[int]:
    return [row["position"] for row in await outbox.fetch(slot, at_most, without=without, without_keys=keys)]


async def ids(outbox: OutboxTable, slot: int = 0) -> list[UUID]:
    return [row["event_id"] for row in await outbox.fetch(slot, 100, without=(), without_keys=())]


async def all_sent(outbox: OutboxTable, *places: int) -> None:
    """These rows of slot 0 were confirmed."""
    await outbox.complete([(0, position) for position in places], keep_history=True)


@contextmanager
def noticing(engine: Engine, notice: Callable[[str, bool], None]) -> Iterator[None]:
    """Call `notice` before each statement of an engine, with its text and whether it has many sets of parameters."""

    def before(_connection: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, many: bool) -> None:
        notice(statement, many)

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)


@asynccontextmanager
async def late(database: Database, *rows: dict[str, Any]) -> AsyncIterator[None]:
    """A transaction that inserts these rows and commits when the block ends."""
    async with database.writer.begin() as connection:
        await OutboxInsert(database.tables).execute(connection, rows)
        yield


@given(st.none() | st.text(st.characters(exclude_categories=["Cs"])), st.uuids())
def test_a_slot_belongs_to_a_key_and_scheduled_rows_wait_beside_it(key: str | None, identity: UUID) -> None:
    slot = slot_of(key, identity)

    assert 0 <= slot < SLOTS
    assert slot_of(key, identity, scheduled=True) == -1 - slot
    if key is not None:
        assert slot_of(key, uuid4()) == slot


def test_rows_without_a_key_are_spread() -> None:
    assert len({slot_of(None, uuid4()) for _ in range(1_000)}) == SLOTS


async def test_rows_are_fetched_in_the_order_of_insertion(database: Database) -> None:
    await insert(database, *(outbox_row(slot=number % 2) for number in range(6)))
    outbox = OutboxTable(database)

    assert await positions(outbox) == [1, 3, 5]
    assert await positions(outbox, slot=1) == [2, 4, 6]
    assert await positions(outbox, at_most=2) == [1, 3]


async def test_what_is_in_flight_and_the_keys_of_it_are_left_out(database: Database) -> None:
    await insert(database, *(outbox_row(partition_key=key) for key in ("a", "b", None, "a", "b")))
    outbox = OutboxTable(database)

    assert await positions(outbox, without=[(0, 1), (0, 3), (1, 2)]) == [2, 4, 5]
    assert await positions(outbox, keys=["a"]) == [2, 3, 5]


async def test_rows_in_flight_are_left_out_as_they_were_when_the_fetch_began(database: Database) -> None:
    # A row that is removed while the fetch reads is still in its snapshot.
    await insert(database, outbox_row())
    in_flight = {(0, 1): "confirmed meanwhile"}

    with noticing(database._own_reader.sync_engine, lambda *_: in_flight.clear()):
        found = await positions(OutboxTable(database), without=in_flight.keys())

    assert in_flight == {}
    assert found == []


@ON_POSTGRESQL
async def test_statements_have_one_text_however_much_is_in_flight(database: Database) -> None:
    # Otherwise the driver would prepare them again and again.
    await insert(database, *(outbox_row() for _ in range(9)))
    outbox, texts = OutboxTable(database), []

    with noticing(database._own_reader.sync_engine, lambda statement, _many: texts.append(statement)):
        for count in (0, 1, 7):
            await positions(outbox, without=[(0, number) for number in range(count)], keys=["k"] * count)
    assert len(texts) == 3
    assert len(set(texts)) == 1


async def test_a_key_that_waits_for_a_retry_is_left_out_and_nothing_else(database: Database, database_url: str) -> None:
    await insert(database, *(outbox_row(partition_key=key) for key in ("a", "b", "a", None, None)))
    outbox = OutboxTable(database)
    await outbox.refuse((0, 1), 1, timedelta(hours=1), "not today")
    await outbox.refuse((0, 4), 1, timedelta(hours=1), "not today")
    assert await positions(outbox) == [2, 5]

    execute(database_url, "UPDATE mediator_outbox SET next_attempt_at = 1 WHERE next_attempt_at IS NOT NULL")
    assert await positions(outbox) == [1, 2, 3, 4, 5]


async def test_keys_that_differ_in_case_or_accent_do_not_wait_for_each_other(database: Database) -> None:
    await insert(database, *(outbox_row(partition_key=key) for key in ("cafe", "Cafe", "café", "CAFÉ", "cafe")))
    outbox = OutboxTable(database)
    await outbox.refuse((0, 1), 1, timedelta(hours=1), "not today")

    assert await positions(outbox) == [2, 3, 4]
    assert await positions(outbox, keys=["café"]) == [2, 4]


async def test_refusing_keeps_number_moment_and_reason(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row())
    await OutboxTable(database).refuse((0, 1), 3, timedelta(hours=2), "not today")

    refused, other = await stored(database_url, "outbox")
    assert (refused["attempts"], refused["last_error"]) == (3, "not today")
    assert timedelta(minutes=119) < refused["next_attempt_at"] - datetime.now(UTC) < timedelta(minutes=121)
    assert (other["attempts"], other["next_attempt_at"], other["last_error"]) == (0, None, None)


async def test_completing_removes_exactly_those_rows_and_remembers_them(database: Database, database_url: str) -> None:
    rows = [outbox_row(slot=number % 2, body=bytes([number]), partition_key=f"k{number}") for number in range(5)]
    await insert(database, *rows)
    await OutboxTable(database).complete([(1, 2), (0, 3), (0, 1), (1, 5)], keep_history=True)

    assert [left["position"] for left in await stored(database_url, "outbox")] == [4, 5]
    sent = {found["event_id"]: found for found in await stored(database_url, "sent")}
    assert set(sent) == {row["event_id"] for row in rows[:3]}
    for row in rows[:3]:
        found = sent[row["event_id"]]
        kept = found.keys() & row.keys() - {"occurred_on"}
        assert len(kept) == 18
        assert {name: found[name] for name in kept} == {name: row[name] for name in kept}
        assert abs(found["occurred_on"] - row["occurred_on"]) < timedelta(milliseconds=1)
        assert abs(found["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_completing_without_history_only_removes(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row())
    await OutboxTable(database).complete([(0, 1)], keep_history=False)

    assert len(await stored(database_url, "outbox")) == 1
    assert await stored(database_url, "sent") == []


async def test_an_event_that_is_sent_again_is_remembered_once(database: Database, database_url: str) -> None:
    again = outbox_row()
    await insert(database, again, again)
    outbox = OutboxTable(database)
    await outbox.complete([(0, 1)], keep_history=True)
    await outbox.complete([(0, 2)], keep_history=True)

    assert await stored(database_url, "outbox") == []
    assert len(await stored(database_url, "sent")) == 1


async def test_completing_what_is_gone_changes_nothing(database: Database, database_url: str) -> None:
    await insert(database, outbox_row())
    await OutboxTable(database).complete([(0, 7), (1, 1)], keep_history=True)

    assert len(await stored(database_url, "outbox")) == 1
    assert await stored(database_url, "sent") == []


async def test_an_event_that_is_there_twice_is_remembered_once(database: Database, database_url: str) -> None:
    again = outbox_row()
    await insert(database, again, again, outbox_row())
    await OutboxTable(database).complete([(0, 1), (0, 2), (0, 3)], keep_history=True)

    assert await stored(database_url, "outbox") == []
    assert len(await stored(database_url, "sent")) == 2


async def test_a_history_that_cannot_be_kept_removes_nothing(database: Database, database_url: str) -> None:
    await insert(database, outbox_row())
    execute(database_url, "DROP TABLE mediator_sent")

    with pytest.raises(DBAPIError):
        await all_sent(OutboxTable(database), 1)
    assert len(await stored(database_url, "outbox")) == 1


@ON_POSTGRESQL
async def test_only_removals_do_not_wait_for_the_disk(database: Database) -> None:
    await insert(database, outbox_row())
    before: list[str] = []
    with noticing(database._own_writer.sync_engine, lambda statement, _many: before.append(statement.split()[0])):
        await all_sent(OutboxTable(database), 1)

    assert before == ["SET", "INSERT", "DELETE"]
    async with asyncio.TaskGroup() as group:
        # All connections of the pool.
        shown = [group.create_task(setting(database, "synchronous_commit")) for _ in range(3)]
    assert {task.result() for task in shown} == {"on"}


async def setting(database: Database, name: str) -> object:
    async with database.begin() as connection:
        value = await connection.scalar(text(f"SHOW {name}"))
        await asyncio.sleep(0.05)
        return value


async def test_attempts_are_counted_up_and_taken_back(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row(slot=1), outbox_row(), outbox_row(slot=1))
    outbox = OutboxTable(database)

    await outbox.record_attempts([(1, 2), (0, 1), (0, 3), (1, 1)])
    await outbox.record_attempts([(0, 3)], change=-1)

    assert [found["attempts"] for found in await stored(database_url, "outbox")] == [1, 1, 0, 0]


async def test_a_row_is_removed_once(database: Database) -> None:
    await insert(database, outbox_row(), outbox_row())
    outbox = OutboxTable(database)
    async with database.begin() as connection:
        assert not await outbox.remove(connection, (1, 1))
        assert await outbox.remove(connection, (0, 1))
        assert not await outbox.remove(connection, (0, 1))

    assert await positions(outbox) == [2]


async def test_it_tells_which_slots_hold_rows(database: Database) -> None:
    await insert(database, outbox_row(slot=3), outbox_row(slot=15), outbox_row(slot=-6, delay=LONG_AGO))
    outbox = OutboxTable(database)
    await outbox.refuse((15, 2), 1, timedelta(hours=1), "not today")

    assert await outbox.filled_slots() == {3, 15}
    await outbox.complete([(3, 1)], keep_history=False)
    assert await outbox.filled_slots() == {15}


async def test_pending_tells_what_waits_and_what_is_scheduled(database: Database) -> None:
    outbox = OutboxTable(database)
    async with database.read() as connection:
        assert await outbox.pending(connection) == {"outbox rows": 0, "scheduled events": 0}
    await insert(database, outbox_row(), outbox_row(slot=3), outbox_row(slot=-1, delay=HOUR))
    async with database.read() as connection:
        assert await outbox.pending(connection) == {"outbox rows": 2, "scheduled events": 1}


async def test_all_rows_of_a_unit_of_work_are_one_statement(database: Database) -> None:
    statements: list[tuple[str, bool]] = []

    with noticing(database._own_writer.sync_engine, lambda *seen: statements.append(seen)):
        await insert(database, *(outbox_row(delay=delay) for delay in (None, NOW, 5)))

    assert [many for statement, many in statements if not statement.startswith("BEGIN")] == [True]


@ON_MYSQL
async def test_the_driver_of_mysql_sends_them_as_one_as_well(database: Database) -> None:
    # It does so only for plain values: with an expression among them, each row would be a statement.
    count = text("SHOW SESSION STATUS LIKE 'Com_insert'")
    rows = [outbox_row() for _ in range(5)]
    async with database.begin() as connection:
        before = (await connection.execute(count)).one()[1]
        await OutboxInsert(database.tables).execute(connection, rows)
        after = (await connection.execute(count)).one()[1]

    assert int(after) - int(before) == 1
    assert await ids(OutboxTable(database)) == [row["event_id"] for row in rows]


@ON_SERVERS
async def test_a_row_that_commits_late_with_an_early_position_is_fetched(database: Database) -> None:
    outbox, row = OutboxTable(database), database.tables.outbox.c
    async with late(database, outbox_row()):
        await insert(database, outbox_row())
        assert await positions(outbox) == [2]
        await all_sent(outbox, 2)
        last = 2

    after_last = select(row.position).where(row.slot == 0, row.position > last)
    async with database.read() as connection:
        assert (await connection.execute(after_last)).all() == [], "what a relay finds that remembers the last position"
    assert await positions(outbox) == [1]


@ON_SERVERS
async def test_a_row_that_commits_while_later_ones_are_sent_is_not_removed_with_them(database: Database) -> None:
    outbox, row = OutboxTable(database), database.tables.outbox.c
    async with late(database, outbox_row()):
        await insert(database, outbox_row(), outbox_row())
        sent = await positions(outbox)
    up_to_last = delete(database.tables.outbox).where(row.slot == 0, row.position <= sent[-1])
    async with database.writer.connect() as connection:
        await connection.execute(up_to_last)
        left = await connection.scalar(select(func.count()).select_from(database.tables.outbox))
        assert left == 0, "what is left by a relay that removes up to the last position"

    await all_sent(outbox, *sent)
    assert await positions(outbox) == [1]


async def test_rows_that_were_rolled_back_are_not_waited_for(database: Database) -> None:
    with pytest.raises(KeyError):  # noqa: PT012 - the block is the transaction
        async with database.begin() as connection:
            await OutboxInsert(database.tables).execute(connection, [outbox_row()])
            raise KeyError
    await insert(database, outbox_row(), outbox_row())

    outbox = OutboxTable(database)
    rows = await outbox.fetch(0, 100, without=(), without_keys=())
    assert len(rows) == 2
    await outbox.complete([key_of(row) for row in rows], keep_history=True)
    assert await positions(outbox) == []


async def test_a_retry_that_is_due_is_fetched_at_its_place(database: Database, database_url: str) -> None:
    await insert(database, *(outbox_row(partition_key=key) for key in ("a", "b", "a")))
    outbox = OutboxTable(database)
    await outbox.refuse((0, 1), 1, timedelta(hours=1), "not today")
    execute(database_url, update(database.tables.outbox).values(next_attempt_at=1))

    assert await positions(outbox) == [1, 2, 3]


@ON_SERVERS
@pytest.mark.parametrize("step", ["complete", "record_attempts"])
async def test_rows_of_others_that_are_not_committed_hold_nothing_up(database: Database, step: str) -> None:
    outbox = OutboxTable(database)
    async with database.begin() as connection:
        await OutboxInsert(database.tables).execute(connection, [outbox_row(slot=3) for _ in range(200)])
    keys = [key_of(row) for row in await outbox.fetch(3, 500, without=(), without_keys=())]
    async with database.writer.connect() as open_one:
        await OutboxInsert(database.tables).execute(open_one, [outbox_row(slot=3)])

        async with asyncio.timeout(5):
            if step == "complete":
                await outbox.complete(keys, keep_history=True)
            else:
                await outbox.record_attempts(keys)
        await open_one.rollback()

    left = await outbox.fetch(3, 500, without=(), without_keys=())
    assert [row["attempts"] for row in left] == ([] if step == "complete" else [1] * 200)
