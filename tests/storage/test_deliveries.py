"""Statements on deliveries: found by state, walked along by lane, removed exactly, known to have been handed out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.deliveries import GroupDeliveries, insert_deliveries, remove_deliveries, waiting_deliveries
from mediator.storage.routes import RoutesTable
from tests.storage.drivers import EVERY_DRIVER, ON_SERVERS
from tests.storage.rows import eventually, stored

pytestmark = EVERY_DRIVER


def delivery_row(**changes: Any) -> dict[str, Any]:
    row = {"group_name": "shop.billing", "lane": 0, "event_id": uuid4(), "topic": "test.orders.v1"}
    return {**row, "partition_key": None, "headers": "{}", "body": b"{}", **changes}


async def insert(database: Database, *rows: dict[str, Any]) -> None:
    async with database.begin() as connection:
        await insert_deliveries(database.tables, connection, rows)


async def provisioned(database: Database) -> GroupDeliveries:
    await RoutesTable(database).add(["test.orders.v1"], {"shop.billing": ["test.orders.v1"]}, 4)
    return GroupDeliveries(database, "shop.billing")


async def places(
    deliveries: GroupDeliveries, lanes: dict[int, set[int]] | None = None, of_each: int = 100
) -> list[tuple[int, int]]:
    rows = await deliveries.fetch({0: set()} if lanes is None else lanes, of_each)
    return sorted((row["lane"], row["position"]) for row in rows)


async def attempts(deliveries: GroupDeliveries) -> list[int]:
    return [row["attempts"] for row in await deliveries.fetch({0: set()}, 100)]


@asynccontextmanager
async def late(database: Database, *rows: dict[str, Any]) -> AsyncIterator[None]:
    """A transaction that inserts these rows and commits when the block ends."""
    async with database.writer.begin() as connection:
        await insert_deliveries(database.tables, connection, rows)
        yield


async def test_each_lane_gives_what_comes_first_but_what_is_held(database: Database) -> None:
    await insert(database, *(delivery_row(lane=number % 2) for number in range(8)))
    await insert(database, delivery_row(group_name="shop.stock"))
    deliveries = await provisioned(database)

    assert await places(deliveries) == [(0, 1), (0, 3), (0, 5), (0, 7)]
    assert await places(deliveries, {0: {1, 5}, 1: {2}}, 2) == [(0, 3), (0, 7), (1, 4), (1, 6)]
    assert await places(deliveries, {2: set(), 3: set()}) == []


@ON_SERVERS
async def test_a_row_that_commits_late_with_an_early_position_is_fetched(database: Database) -> None:
    deliveries = await provisioned(database)
    async with late(database, delivery_row()):
        await insert(database, delivery_row(), delivery_row())
        assert await places(deliveries) == [(0, 2), (0, 3)]
        await deliveries.note([(0, 2), (0, 3)], {0: 3})
        for _ in range(3):
            await deliveries.advance_watermarks()
            assert await places(deliveries) == []

    assert await places(deliveries) == [(0, 1)]


@ON_SERVERS
async def test_the_past_is_not_walked_along_again(database: Database) -> None:
    deliveries = await provisioned(database)
    await insert(database, *(delivery_row() for _ in range(5)))
    await places(deliveries)
    await deliveries.note([(0, position) for position in range(1, 6)], {})
    watermarks = deliveries._watermarks
    assert watermarks is not None

    async def is_past() -> bool:
        # Any transaction of the server may still be older.
        await deliveries.advance_watermarks()
        return watermarks.of(0) == 6

    await eventually(is_past)
    deliveries.disown([0])
    assert watermarks.of(0) == 0


async def test_exactly_what_was_acknowledged_is_removed(database: Database, database_url: str) -> None:
    deliveries = await provisioned(database)
    await insert(database, *(delivery_row(lane=number % 2) for number in range(6)))
    await insert(database, delivery_row(group_name="shop.stock"))

    await deliveries.note([(1, 4), (0, 1), (0, 99)], {})

    assert [row["position"] for row in await stored(database_url, "deliveries")] == [2, 3, 5, 6, 7]


async def test_what_was_handed_out_and_not_settled_is_counted_once_when_its_lane_is_taken(database: Database) -> None:
    deliveries = await provisioned(database)
    await insert(database, *(delivery_row() for _ in range(4)), delivery_row(lane=1))
    await deliveries.take_over([0, 1])
    assert await attempts(deliveries) == [0, 0, 0, 0]

    await deliveries.note([(0, 1)], {0: 3})
    await deliveries.take_over([0, 1])
    await deliveries.take_over([0, 1])

    assert await attempts(deliveries) == [1, 1, 0]
    await deliveries.note([], {0: 2})
    await deliveries.take_over([0])
    assert await attempts(deliveries) == [2, 1, 0]


async def test_a_mark_only_rises_and_is_taken_back_by_whoever_set_it(database: Database, database_url: str) -> None:
    deliveries = await provisioned(database)

    async def mark() -> int:
        return int((await stored(database_url, "lanes"))[0]["fetched_to"])

    await deliveries.note([], {0: 7})
    await deliveries.note([], {0: 5})
    assert await mark() == 7
    await deliveries.note([], {}, {0: (5, 0)})
    assert await mark() == 7
    await deliveries.note([], {}, {0: (7, 3)})
    assert await mark() == 3


@ON_SERVERS
async def test_rows_of_others_that_are_not_committed_hold_nothing_up(database: Database) -> None:
    deliveries = await provisioned(database)
    await insert(database, *(delivery_row() for _ in range(200)))
    async with database.writer.connect() as open_one, asyncio.timeout(5):
        await insert_deliveries(database.tables, open_one, [delivery_row()])

        found = await places(deliveries, of_each=500)
        await deliveries.note(found, {0: 200})
        await open_one.rollback()

    assert len(found) == 200
    assert await places(deliveries) == []


async def test_what_waits_for_a_group_is_counted_and_removed_in_batches(database: Database) -> None:
    await insert(database, *(delivery_row(lane=number % 3) for number in range(5)))
    await insert(database, delivery_row(group_name="shop.stock"))

    waiting = await waiting_deliveries(database, ["shop.billing", "shop.nobody"])
    removed = [await remove_deliveries(database, "shop.billing", 3) for _ in range(3)]

    assert waiting == {"shop.billing": 5}
    assert removed == [3, 2, 0]
    assert await waiting_deliveries(database, ["shop.billing", "shop.stock"]) == {"shop.stock": 1}


@pytest.mark.parametrize("what", ["fetch", "remove"])
async def test_statements_walk_along_the_index_however_much_waits(database: Database, what: str) -> None:
    deliveries = await provisioned(database)
    for _ in range(5):
        await insert(database, *(delivery_row(lane=number % 4) for number in range(2_000)))
    held = {lane: {4 * row + lane + 1 for row in range(50)} for lane in range(4)}
    seen: list[tuple[str, Any]] = []

    def notice(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    engines = [engine.sync_engine for engine in (database._own_reader, database._own_writer)]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", notice)
    if what == "fetch":
        assert len(await places(deliveries, held, 50)) == 200
    else:
        await deliveries.note([(lane, position) for lane in held for position in held[lane]], {})
    for engine in engines:
        event.remove(engine, "before_cursor_execute", notice)

    ((statement, parameters),) = [one for one in seen if "mediator_deliveries" in one[0]]
    plan = await explained(database, statement, parameters[0] if isinstance(parameters, list) else parameters)
    assert "mediator_deliveries" in plan or "PRIMARY" in plan, plan
    assert not any(scan in plan for scan in scans(database)), plan


def scans(database: Database) -> tuple[str, ...]:
    """What a plan says that reads all of a table."""
    if database.dialect in MYSQL:
        return ('"access_type": "ALL", "table_name": "mediator',)
    return ("SCAN mediator_deliveries", "TEMP B-TREE") if database.dialect == "sqlite" else ("Seq Scan on mediator",)


async def explained(database: Database, statement: str, parameters: Any) -> str:
    explain = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
    async with database.begin() as connection:
        if database.dialect == "postgresql":
            await connection.exec_driver_sql("ANALYZE mediator_deliveries")
        if database.dialect in MYSQL:
            rows = (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).mappings().all()
            return "\n".join(
                f'"access_type": "{row["type"]}", "table_name": "mediator" key {row["key"]} rows {row["rows"]}'
                for row in rows
                if row["table"] and row["table"] != "chosen" and not row["table"].startswith("<")
            )
        return "\n".join(str(tuple(row)) for row in await connection.exec_driver_sql(explain + statement, parameters))
