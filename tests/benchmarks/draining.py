"""How fast a relay empties an outbox: next to the driver alone, and under a snapshot that somebody holds open.

The transport confirms at once, so what is measured is fetching and removing. A snapshot that is held open (a backup, a
forgotten transaction) keeps the database from throwing deleted rows away; a relay must not wade through them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator import Runtime
from mediator.messaging.envelope import Envelope
from mediator.observability import Counters
from mediator.publishing.relay import Relay, RelaySettings
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS
from tests.benchmarks.growth import fill_outbox
from tests.benchmarks.measuring import Goal, Scale, Table, Way, measure
from tests.benchmarks.places import Place, on_each
from tests.support.transports import ScriptedTransport

__all__ = ["run"]

DRIVER, RELAY, HISTORY, SNAPSHOT = (
    "the driver alone: SELECT 500, DELETE",
    "the relay, no history",
    "the relay, with a history",
    "the relay, no history, under a snapshot",
)


_HOLD = {
    True: ["BEGIN ISOLATION LEVEL REPEATABLE READ"],
    False: ["SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"],
}
"""By whether it is PostgreSQL; on a connection that nothing ends for being idle."""


class _ConfirmingTransport(ScriptedTransport):
    """Keeps no record."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.done = asyncio.Event()

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        for envelope in batch:
            yield envelope, None
        self.left -= len(batch)
        if self.left <= 0:
            self.done.set()


class _Nobody:
    """Nothing dies here."""

    async def bury_unsent(
        self, connection: AsyncConnection, row: RowMapping, error: BaseException, attempts: int
    ) -> UUID:
        raise AssertionError from error

    async def announce_unsent(self, event_id: UUID) -> None:
        raise AssertionError


async def run(scale: Scale) -> Sequence[Table]:
    """On SQLite nobody's snapshot keeps rows in the way of a relay: there are no dead rows in its tables."""
    return await on_each(["sqlite", "postgresql", "mariadb"], _draining, scale)


async def _draining(place: Place, scale: Scale) -> Sequence[Table]:
    rows = scale.rows(20_000, 400_000) / scale.repetitions
    async with AsyncExitStack() as stack:
        databases = {}
        for number, name in enumerate((DRIVER, RELAY, HISTORY, SNAPSHOT)):
            databases[name] = await place.database(f"drain_{number}_")
            stack.push_async_callback(databases[name].close)
        held = _HeldSnapshot(databases[SNAPSHOT])
        stack.push_async_callback(held.release)

        async def before(way: str, times: int) -> None:
            await held.release()
            await _empty(databases[way])
            await fill_outbox(databases[way], times)
            if way == SNAPSHOT:
                await held.take()

        ways: dict[str, Way] = {
            DRIVER: _by_driver(databases[DRIVER]),
            RELAY: _by_relay(databases[RELAY], keep_history=False),
            HISTORY: _by_relay(databases[HISTORY], keep_history=True),
            SNAPSHOT: _by_relay(databases[SNAPSHOT], keep_history=False),
        }
        goals = [
            Goal("the relay, to the driver alone: CPU", RELAY, DRIVER, "cpu", 4),
            Goal("rows per second, under a snapshot, to without", SNAPSHOT, RELAY, "wall", 0.5, True),
        ]
        if place.name == "sqlite":
            del ways[SNAPSHOT], goals[1]
        title = f"Relaying one of {scale.times(int(rows)):,} rows, on {place.title}"
        return [await measure(title, ways, int(rows), scale, goals=goals, before=before)]


def _by_relay(database: Database, *, keep_history: bool) -> Way:
    async def way(times: int) -> None:
        transport = _ConfirmingTransport()
        transport.left = times
        settings, runtime, counters = RelaySettings(), Runtime(), Counters()
        relay = Relay(
            database, transport, settings, runtime, counters, _Nobody(), lambda: False, keep_history=keep_history
        )
        relay.start()
        await transport.done.wait()
        await relay.stop()
        await relay.close()
        assert await _left(database) == 0

    return way


def _by_driver(database: Database) -> Way:
    outbox = database.tables.outbox.fullname

    async def by_asyncpg(driver: Any) -> None:
        for slot in range(SLOTS):
            query = f"SELECT * FROM {outbox} WHERE slot = $1 ORDER BY position LIMIT 500"
            while rows := await driver.fetch(query, slot):
                positions = [row["position"] for row in rows]
                await driver.execute(f"DELETE FROM {outbox} WHERE slot = $1 AND position = ANY($2)", slot, positions)

    async def by_cursor(driver: Any) -> None:
        mark = "?" if database.dialect == "sqlite" else "%s"
        column = [column.name for column in database.tables.outbox.c].index("position")
        cursor = await driver.cursor() if database.dialect == "sqlite" else driver.cursor()
        for slot in range(SLOTS):
            query = f"SELECT * FROM {outbox} WHERE slot = {mark} ORDER BY position LIMIT 500"
            while True:
                await cursor.execute(query, (slot,))
                rows = await cursor.fetchall()
                if not rows:
                    break
                marks = ", ".join([mark] * len(rows))
                delete = f"DELETE FROM {outbox} WHERE slot = {mark} AND position IN ({marks})"
                await cursor.execute(delete, (slot, *(row[column] for row in rows)))
                await driver.commit()

    async def way(_times: int) -> None:
        async with database.begin() if database.dialect == "sqlite" else database.dedicated() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            await (by_asyncpg if database.dialect == "postgresql" else by_cursor)(driver)

    return way


class _HeldSnapshot:
    """Somebody else's transaction, which sees what was there when it began."""

    def __init__(self, database: Database) -> None:
        self._database, self._stack = database, AsyncExitStack()

    async def take(self) -> None:
        connection = await self._stack.enter_async_context(self._database.dedicated())
        for statement in _HOLD[self._database.dialect == "postgresql"]:
            await connection.exec_driver_sql(statement)
        await connection.execute(text(f"SELECT count(*) FROM {self._database.tables.meta.fullname}"))

    async def release(self) -> None:
        await self._stack.aclose()


async def _empty(database: Database) -> None:
    clear = "DELETE FROM" if database.dialect == "sqlite" else "TRUNCATE TABLE"
    for table in (database.tables.outbox, database.tables.sent):
        async with database.begin() as connection:
            await connection.execute(text(f"{clear} {table.fullname}"))


async def _left(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(database.tables.outbox)) or 0)
