"""Below the watermark no row is alive and none can appear: neither of a transaction that is still open, nor a new one.

The server is one of this module's own, because transactions of others hold the watermarks down at any moment.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import event, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage import watermark
from mediator.storage.database import Database
from mediator.storage.outbox import OutboxTable, insert_statement, key_of
from mediator.storage.scheduled import Schedule
from mediator.storage.schema import create_schema
from mediator.storage.watermark import Watermarks
from tests.storage.rows import outbox_row
from tests.support.own_servers import PostgreSQLServer

pytestmark = [pytest.mark.xdist_group("watermarks"), pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])]

PREFIX = (f"test_{number}_" for number in count())
DRAW_AN_ID = text("SELECT pg_current_xact_id()")
AFTER_THE_LAST_THAT_ENDED = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        server.start(autovacuum="off", fsync="off")
        yield server


@pytest_asyncio.fixture
async def database(server: PostgreSQLServer, driver: str) -> AsyncIterator[Database]:
    database = Database(server.url(driver=driver), prefix=next(PREFIX))
    try:
        await create_schema(database)
        yield database
    finally:
        await database.close()


async def insert(database: Database, connection: AsyncConnection, number: int = 1, **changes: Any) -> list[UUID]:
    rows = [outbox_row(**changes) for _ in range(number)]
    await connection.execute(insert_statement(database.tables), rows)
    return [row["event_id"] for row in rows]


async def committed(database: Database, number: int = 1, **changes: Any) -> list[UUID]:
    async with database.begin() as connection:
        return await insert(database, connection, number, **changes)


async def relayed(outbox: OutboxTable, slot: int = 0) -> list[UUID]:
    """What a relay finds, which is sent and removed then."""
    rows = await outbox.fetch(slot, 100, without=(), without_keys=())
    await outbox.complete([key_of(row) for row in rows], keep_history=False)
    return [row["event_id"] for row in rows]


async def proved(outbox: OutboxTable | Watermarks) -> None:
    """As often as it takes when nothing stands in the way."""
    advance = outbox.advance if isinstance(outbox, Watermarks) else outbox.advance_watermarks
    for _ in range(4):
        await advance()


@contextmanager
def statements(database: Database, notice: Callable[[str], None]) -> Iterator[None]:
    def before(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        notice(statement)

    engines = [database._own_reader.sync_engine, database._own_writer.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", before)
    yield
    for engine in engines:
        event.remove(engine, "before_cursor_execute", before)


@pytest.mark.parametrize(("gone", "low"), [([], 1), ([2, 3], 1), ([1, 2], 3), ([1, 3], 2), ([1, 2, 3], 4)])
async def test_it_rises_to_the_lowest_row_that_is_alive_or_above_what_was_seen(
    database: Database, gone: list[int], low: int
) -> None:
    await committed(database, 5)
    await OutboxTable(database).complete([(0, position) for position in gone], keep_history=False)
    if low == 4:
        await OutboxTable(database).complete([(0, 4), (0, 5)], keep_history=False)
    watermarks = Watermarks(database)
    watermarks.saw(0, 3)

    await proved(watermarks)

    assert watermarks.of(0) == low
    assert watermarks.of(1) == 0


async def test_what_was_not_seen_yet_does_not_raise_it(database: Database) -> None:
    outbox = OutboxTable(database)
    await committed(database, 3)
    await relayed(outbox)
    later = await committed(database, 2)
    await proved(outbox)

    assert await relayed(outbox) == later


async def test_a_transaction_that_has_drawn_an_id_holds_it_down_until_it_ends(database: Database) -> None:
    watermarks = Watermarks(database)
    async with database.writer.connect() as open_one:
        await insert(database, open_one)
        await committed(database)
        watermarks.saw(0, 2)
        await proved(watermarks)
        assert watermarks.of(0) == 0
        await open_one.rollback()

    await OutboxTable(database).complete([(0, 2)], keep_history=False)
    await proved(watermarks)
    assert watermarks.of(0) == 3


async def test_a_snapshot_that_is_held_open_does_not(database: Database) -> None:
    watermarks = Watermarks(database)
    await committed(database)
    async with database.snapshot() as backup:
        await backup.execute(database.tables.outbox.select())
        await OutboxTable(database).complete([(0, 1)], keep_history=False)
        watermarks.saw(0, 1)
        await proved(watermarks)

    assert watermarks.of(0) == 2


async def test_fetching_begins_at_it(database: Database) -> None:
    outbox = OutboxTable(database)
    await committed(database, 3)
    await relayed(outbox)
    await proved(outbox)
    await committed(database)

    assert await outbox.filled_slots() == {0}
    assert len(await relayed(outbox)) == 1
    # What no way of entering a slot does.
    async with database.begin() as connection:
        await connection.execute(outbox_row_at(database, 1))
    assert await outbox.filled_slots() == set()
    assert await relayed(outbox) == []


def outbox_row_at(database: Database, position: int) -> Any:
    values = outbox_row(position=position)
    del values["delay"], values["at"]
    return database.tables.outbox.insert().values(values)


async def test_when_nothing_was_relayed_no_ids_are_drawn(database: Database) -> None:
    outbox = OutboxTable(database)
    seen: list[str] = []
    with statements(database, seen.append):
        await proved(outbox)
    assert seen == []

    await committed(database)
    await relayed(outbox)
    await proved(outbox)
    with statements(database, seen.append):
        await proved(outbox)
    assert seen == []


async def test_what_others_relay_now_is_forgotten(database: Database) -> None:
    watermarks = Watermarks(database)
    for slot in (0, 1):
        watermarks.saw(slot, 5)
    await proved(watermarks)
    assert [watermarks.of(slot) for slot in (0, 1)] == [6, 6]

    watermarks.forget([0])

    assert [watermarks.of(slot) for slot in (0, 1)] == [0, 6]
    await proved(watermarks)
    assert watermarks.of(0) == 0


async def test_what_is_forgotten_while_it_is_proved_stays_forgotten(database: Database) -> None:
    watermarks = Watermarks(database)
    watermarks.saw(0, 5)
    await watermarks.advance()

    def forget(statement: str) -> None:
        if statement.startswith("SELECT min("):
            watermarks.forget([0])

    with statements(database, forget):
        await watermarks.advance()

    assert watermarks.of(0) == 0


async def test_the_id_of_the_transaction_is_drawn_before_the_position(database: Database) -> None:
    async with database.read() as connection:
        columns = await connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = :name ORDER BY ordinal_position"
            ),
            {"name": database.tables.outbox.name},
        )
        names = list(columns.scalars())

    assert names.index("xid") < names.index("position")


async def test_a_row_that_is_scheduled_and_let_go_is_found_above_it(database: Database) -> None:
    outbox, row = OutboxTable(database), database.tables.outbox.c
    (early,) = await committed(database, slot=-1, delay=-1)
    await committed(database, 3)
    await relayed(outbox)
    await proved(outbox)

    async with database.writer.connect() as connection:
        with_its_old_position = update(database.tables.outbox).where(row.slot < 0).values(slot=-1 - row.slot)
        await connection.execute(with_its_old_position)
        await connection.commit()
        assert await relayed(outbox) == [], "what a relay finds when rows keep their positions"
        await connection.execute(update(database.tables.outbox).values(slot=-1 - row.slot))
        await connection.commit()

    assert await Schedule(database).release([0], 10) == {0}
    assert await relayed(outbox) == [early]


@pytest.mark.parametrize("fence", ["a drawn id", "the id after the last that ended"])
async def test_a_transaction_above_the_last_that_ended_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch, fence: str
) -> None:
    is_naive = fence != "a drawn id"
    if is_naive:
        monkeypatch.setattr(watermark, "_DRAW", AFTER_THE_LAST_THAT_ENDED)
    outbox = OutboxTable(database)
    async with AsyncExitStack() as stack:
        first, between, slow = [await stack.enter_async_context(database.writer.connect()) for _ in range(3)]
        for connection in (first, between, slow):
            await connection.execute(DRAW_AN_ID)
        late = await insert(database, slow)
        early = await insert(database, first)
        # The last that has ended is the first; `slow` has a later id, an earlier position, and is not seen.
        await first.commit()
        rows = await outbox.fetch(0, 100, without=(), without_keys=())
        await outbox.advance_watermarks()
        assert [row["event_id"] for row in rows] == early
        await outbox.complete([key_of(row) for row in rows], keep_history=False)
        await between.rollback()
        await proved(outbox)
        await slow.commit()

    assert await relayed(outbox) == ([] if is_naive else late)


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_commits_when_no_row_is_missed(database: Database, seed: int) -> None:
    random, outbox = Random(seed), OutboxTable(database)
    expected: set[UUID] = set()
    found: list[UUID] = []
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(database.writer.connect()) for _ in range(5)]
        written: list[list[UUID]] = [[] for _ in writers]
        for _ in range(120):
            number = random.randrange(len(writers))
            match random.choice(["draw", "insert", "insert", "end", "relay", "advance"]):
                case "draw":
                    await writers[number].execute(DRAW_AN_ID)
                case "insert":
                    slot, delay = random.choice([(0, None), (0, None), (-1, -1)])
                    rows = await insert(database, writers[number], random.randint(1, 3), slot=slot, delay=delay)
                    written[number] += rows
                case "end":
                    commits = random.random() < 0.7
                    await (writers[number].commit() if commits else writers[number].rollback())
                    expected.update(written[number] if commits else ())
                    written[number] = []
                case "relay":
                    await Schedule(database).release([0], 2)
                    found += await relayed(outbox)
                case "advance":
                    await outbox.advance_watermarks()
        for writer, ids in zip(writers, written, strict=True):
            await writer.commit()
            expected.update(ids)
    await Schedule(database).release([0], 1_000)
    while more := await relayed(outbox):
        found += more

    assert sorted(found) == sorted(expected)
