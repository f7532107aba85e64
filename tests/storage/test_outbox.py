"""Statements on the outbox: selected by state, removed exactly, remembered once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, OutboxTable, insert_statement, slot_of
from tests.storage.rows import execute, outbox_row, stored


async def insert(database: Database, *rows: dict[str, Any]) -> None:
    async with database.begin() as connection:
        await connection.execute(insert_statement(database.tables), list(rows))


async def positions(outbox: OutboxTable, at_most: int = 100, slot: int = 0, **without: Any) -> list[int]:
    left_out = {"without_positions": (), "without_keys": (), **without}
    return [found["position"] for found in await outbox.fetch(slot, at_most, **left_out)]


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

    assert await positions(outbox, without_positions=[1, 3]) == [2, 4, 5]
    assert await positions(outbox, without_keys=["a"]) == [2, 3, 5]


async def test_rows_in_flight_are_left_out_as_they_were_when_the_fetch_began(database: Database) -> None:
    # A row that is removed while the fetch reads is still in its snapshot.
    await insert(database, outbox_row())
    in_flight = {1: "confirmed meanwhile"}

    def forget(*_arguments: object) -> None:
        in_flight.clear()

    event.listen(database._own_reader.sync_engine, "before_cursor_execute", forget)
    found = await positions(OutboxTable(database), without_positions=in_flight.keys())
    event.remove(database._own_reader.sync_engine, "before_cursor_execute", forget)

    assert in_flight == {}
    assert found == []


async def test_a_key_that_waits_for_a_retry_is_left_out_and_nothing_else(database: Database, database_url: str) -> None:
    await insert(database, *(outbox_row(partition_key=key) for key in ("a", "b", "a", None, None)))
    outbox = OutboxTable(database)
    await outbox.refuse(1, 1, timedelta(hours=1), "not today")
    await outbox.refuse(4, 1, timedelta(hours=1), "not today")
    assert await positions(outbox) == [2, 5]

    execute(database_url, "UPDATE mediator_outbox SET next_attempt_at = 1 WHERE next_attempt_at IS NOT NULL")
    assert await positions(outbox) == [1, 2, 3, 4, 5]


async def test_refusing_keeps_number_moment_and_reason(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row())
    await OutboxTable(database).refuse(1, 3, timedelta(hours=2), "not today")

    refused, other = await stored(database_url, "outbox")
    assert (refused["attempts"], refused["last_error"]) == (3, "not today")
    assert timedelta(minutes=119) < refused["next_attempt_at"] - datetime.now(UTC) < timedelta(minutes=121)
    assert (other["attempts"], other["next_attempt_at"], other["last_error"]) == (0, None, None)


async def test_completing_removes_exactly_those_rows_and_remembers_them(database: Database, database_url: str) -> None:
    rows = [outbox_row() for _ in range(4)]
    await insert(database, *rows)
    await OutboxTable(database).complete([1, 3], keep_history=True)

    assert [left["position"] for left in await stored(database_url, "outbox")] == [2, 4]
    sent = {found["event_id"]: found for found in await stored(database_url, "sent")}
    assert set(sent) == {rows[0]["event_id"], rows[2]["event_id"]}
    found = sent[rows[0]["event_id"]]
    assert {name: found[name] for name in ("topic", "body", "correlation_id", "module", "cause")} == {
        name: rows[0][name] for name in ("topic", "body", "correlation_id", "module", "cause")
    }
    assert found["sent_at"].tzinfo is UTC


async def test_completing_without_history_only_removes(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row())
    await OutboxTable(database).complete([1], keep_history=False)

    assert len(await stored(database_url, "outbox")) == 1
    assert await stored(database_url, "sent") == []


async def test_an_event_that_is_sent_again_is_remembered_once(database: Database, database_url: str) -> None:
    again = outbox_row()
    await insert(database, again, again)
    outbox = OutboxTable(database)
    await outbox.complete([1], keep_history=True)
    await outbox.complete([2], keep_history=True)

    assert await stored(database_url, "outbox") == []
    assert len(await stored(database_url, "sent")) == 1


async def test_completing_what_is_gone_changes_nothing(database: Database, database_url: str) -> None:
    await insert(database, outbox_row())
    await OutboxTable(database).complete([7], keep_history=True)

    assert len(await stored(database_url, "outbox")) == 1
    assert await stored(database_url, "sent") == []


async def test_attempts_are_counted_up_and_taken_back(database: Database, database_url: str) -> None:
    await insert(database, outbox_row(), outbox_row())
    outbox = OutboxTable(database)

    await outbox.record_attempts([1, 2])
    await outbox.record_attempts([2], change=-1)

    assert [found["attempts"] for found in await stored(database_url, "outbox")] == [1, 0]


async def test_scheduled_rows_are_released_when_they_are_due(database: Database, database_url: str) -> None:
    hour = 3_600_000
    await insert(
        database,
        outbox_row(slot=-1, delay=hour),
        outbox_row(slot=-1, delay=0),
        outbox_row(slot=-3, delay=-1),
        outbox_row(),
    )
    outbox = OutboxTable(database)

    assert await outbox.release_scheduled() == 2
    assert await outbox.release_scheduled() == 0
    assert [found["slot"] for found in await stored(database_url, "outbox")] == [-1, 0, 2, 0]
    assert await positions(outbox) == [2, 4]


async def test_pending_tells_what_waits_and_what_is_scheduled(database: Database) -> None:
    await insert(database, outbox_row(), outbox_row(slot=3), outbox_row(slot=-1, delay=1_000_000))
    async with database.read() as connection:
        assert await OutboxTable(database).pending(connection) == {"outbox rows": 2, "scheduled events": 1}


async def test_all_rows_of_a_unit_of_work_are_one_statement(database: Database) -> None:
    statements: list[bool] = []

    def note(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, _context: Any, many: bool) -> None:
        statements.append(many)

    def rows() -> Iterator[dict[str, Any]]:
        yield from (outbox_row(delay=delay) for delay in (None, 0, 5))

    event.listen(database.writer.sync_engine, "before_cursor_execute", note)
    await insert(database, *rows())
    event.remove(database.writer.sync_engine, "before_cursor_execute", note)

    # BEGIN IMMEDIATE, and the rows.
    assert statements == [False, True]
