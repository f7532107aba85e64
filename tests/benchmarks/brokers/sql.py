"""On a database: the driver inserts the rows of a batch and commits, and selects, deletes and commits.

FastStream has nothing for a database, so there is no peer. The driver's table is the one that the transport has, made
a second time; its connection is made as the toolkit makes its own, so it is as durable.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.messaging.transport import Transport
from mediator.storage.database import Database
from mediator.transports.sql import SqlTransport
from tests.benchmarks.brokers.contenders import (
    BARE,
    BATCH,
    GROUP,
    LANES,
    Broker,
    Consumer,
    Message,
    Publish,
    versions,
)
from tests.benchmarks.places import Place

__all__ = ["database"]

_COLUMNS: Final = ("group_name", "lane", "event_id", "topic", "partition_key", "headers", "body", "attempts")
_DRIVERS: Final = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "asyncmy", "mariadb": "asyncmy"}
_TABLE = "bare_deliveries"


@asynccontextmanager
async def database(place: Place) -> AsyncIterator[Broker]:
    bare = await place.database("bare_")
    try:
        yield _Sql(place, bare)
    finally:
        await bare.close()


class _Sql(Broker):
    def __init__(self, place: Place, bare: Database) -> None:
        self._place, self._bare, self.title = place, bare, place.title
        driver = _DRIVERS[make_url(place.url).get_backend_name()]
        self.note = (
            f"With {versions('sqlalchemy', driver)}. The bare driver inserts {BATCH} rows by executemany and commits; "
            f"it selects {BATCH} rows of one lane, deletes them by their positions and commits."
        )
        self._read_up_to = 0

    def transport(self, name: str) -> SqlTransport:
        url = make_url(self._place.url).update_query_dict({"prefix": f"{name}_", "lanes": str(LANES)})
        return SqlTransport.from_url(f"sql+{url.render_as_string(hide_password=False)}")

    @asynccontextmanager
    async def publishers(self) -> AsyncIterator[Mapping[str, Publish]]:
        yield {BARE: self._publish}

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[Mapping[str, Consumer]]:
        yield {BARE: Consumer(self._publish, self._consume)}

    async def empty(self) -> None:
        async with self._bare.begin() as connection:
            for table in (_TABLE, "publishing_deliveries"):
                await connection.execute(text(f"DELETE FROM {table}"))

    async def settled(self, transport: Transport) -> None:
        while any((await transport.backlog([GROUP])).values()):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)

    async def _publish(self, messages: Sequence[Message]) -> None:
        rows = [self._row(message) for message in messages]
        insert = f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES ({self._marks(len(_COLUMNS))})"
        async with self._bare.begin() as connection:
            driver = await _driver(connection)
            if self._bare.dialect == "postgresql":
                async with driver.transaction():
                    await driver.executemany(insert, rows)
            elif self._bare.dialect == "sqlite":
                await driver.executemany(insert, rows)
            else:
                async with driver.cursor() as cursor:
                    await cursor.executemany(insert, rows)

    async def _consume(self, count: int) -> None:
        while count > 0:
            async with self._bare.begin() as connection:
                count -= await self._consume_some(await _driver(connection))

    async def _consume_some(self, driver: Any) -> int:
        places = f"FROM {_TABLE} WHERE group_name = '{GROUP}' AND lane = 0 AND position"
        select = f"SELECT position, {', '.join(_COLUMNS)} {places} > {self._read_up_to} ORDER BY position LIMIT {BATCH}"
        if self._bare.dialect == "postgresql":
            async with driver.transaction():
                positions = [row[0] for row in await driver.fetch(select)]
                await driver.execute(f"DELETE {places} = ANY($1)", positions)
        else:
            cursor = await driver.cursor() if self._bare.dialect == "sqlite" else driver.cursor()
            await cursor.execute(select)
            positions = [row[0] for row in await cursor.fetchall()]
            await cursor.execute(f"DELETE {places} IN ({self._marks(len(positions))})", tuple(positions))
            await cursor.close()
        self._read_up_to = positions[-1]
        return len(positions)

    def _row(self, message: Message) -> tuple[Any, ...]:
        event_id: Any = message.envelope.event_id
        if self._bare.dialect != "postgresql":
            event_id = event_id.bytes
        headers = json.dumps(dict(message.headers))
        return GROUP, 0, event_id, message.envelope.topic, message.key, headers, message.body, 0

    def _marks(self, count: int) -> str:
        marks = {"sqlite": "?", "postgresql": "${}"}
        return ", ".join(marks.get(self._bare.dialect, "%s").format(number) for number in range(1, count + 1))


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection
