"""Watermarks on MariaDB and MySQL: rows that are inserted and not committed yet hold them down."""

import asyncio
from collections.abc import Sequence

from mediator.storage.database import Database
from mediator.storage.outbox import OutboxTable, key_of
from mediator.storage.watermark import Watermarks
from tests.storage.drivers import ON_MYSQL
from tests.storage.test_watermark import committed, insert, outbox_row_at, proved, relayed

pytestmark = ON_MYSQL


async def test_it_rises_above_what_was_relayed_although_a_snapshot_is_open(database: Database) -> None:
    watermarks = Watermarks(database)
    await committed(database, 3)
    async with database.snapshot() as backup:
        await backup.execute(database.tables.outbox.select())
        await OutboxTable(database).complete([(0, 1), (0, 2)], keep_history=False)
        watermarks.saw(0, 3)
        await proved(watermarks)
        assert watermarks.of(0) == 3
        await OutboxTable(database).complete([(0, 3)], keep_history=False)
        await proved(watermarks)

    assert watermarks.of(0) == 4


async def test_a_row_that_is_not_committed_holds_it_down_and_is_found(database: Database) -> None:
    outbox = OutboxTable(database)
    async with database.writer.connect() as open_one:
        late = await insert(database, open_one)
        early = await committed(database, 2)
        assert await relayed(outbox) == early
        await proved(outbox)
        await open_one.commit()

    assert await outbox.filled_slots() == {0}
    assert await relayed(outbox) == late


async def test_nobody_else_sees_what_is_not_committed(database: Database) -> None:
    outbox = OutboxTable(database)

    async def looks() -> Sequence[object]:
        # As many at once as the pool has connections, and more.
        return await asyncio.gather(*(outbox.fetch(0, 10, without=(), without_keys=()) for _ in range(6)))

    for _ in range(4):
        await looks()
        await committed(database)
        await relayed(outbox)
        await proved(outbox)
    async with database.writer.connect() as open_one:
        await insert(database, open_one)

        assert await looks() == [[]] * 6
        assert await outbox.filled_slots() == set()


async def test_a_row_whose_removal_is_not_committed_holds_it_down(database: Database) -> None:
    outbox = OutboxTable(database)
    events = await committed(database, 2)
    async with database.writer.connect() as open_one:
        await open_one.execute(database.tables.outbox.delete())
        outbox._watermarks.saw(0, 2)  # type: ignore[union-attr]
        await proved(outbox)
        await open_one.rollback()

    assert await relayed(outbox) == events


async def test_what_has_appeared_below_it_is_found_by_the_complete_look(database: Database) -> None:
    outbox = OutboxTable(database)
    await committed(database, 3)
    await relayed(outbox)
    await proved(outbox)
    async with database.begin() as connection:
        await connection.execute(outbox_row_at(database, 1))
    await proved(outbox)
    assert await relayed(outbox) == []

    assert outbox._watermarks is not None
    outbox._watermarks._complete_look_at = 0
    await proved(outbox)

    (found,) = await outbox.fetch(0, 10, without=(), without_keys=())
    assert key_of(found) == (0, 1)
