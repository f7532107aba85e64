"""What is stored: rows as the tables' types read them, and waiting until they are as they should be."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from sqlite3 import connect
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.engine import make_url

from mediator.storage.database import Database

__all__ = ["eventually", "execute", "outbox_row", "stored"]

Row = Mapping[str, Any]


async def stored(url: str, table: str) -> list[Row]:
    """The committed rows of a table of the toolkit, in the order of its key."""
    database = Database(url)
    rows = getattr(database.tables, table)
    try:
        async with database.read() as connection:
            found = await connection.execute(select(rows).order_by(*rows.primary_key.columns))
            return [dict(row) for row in found.mappings()]
    finally:
        await database.close()


def execute(url: str, statement: str, *parameters: object) -> None:
    """Change the database from outside of the application."""
    with closing(connect(make_url(url).database or "", timeout=10)) as connection, connection:
        connection.execute(statement, parameters)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return when `condition` is true; the test fails when it does not become true."""
    async with asyncio.timeout(20):
        while True:
            met = condition()
            if await met if inspect.isawaitable(met) else met:
                return
            await asyncio.sleep(0.01)


def outbox_row(**changes: Any) -> dict[str, Any]:
    """What `insert_statement` takes, in slot 0."""
    values: dict[str, Any] = {
        "slot": 0,
        "event_id": uuid4(),
        "topic": "test.shop.public.orders.v1",
        "type": "shop.order-placed",
        "version": "v1",
        "partition_key": None,
        "body": b"{}",
        "headers": "{}",
        "source": "/shop/ordering",
        "occurred_on": datetime.now(UTC),
        "delay": None,
        "attempts": 0,
        "correlation_id": "c",
        "causation_id": None,
        "traceparent": None,
        "module": "ordering",
        "cause": "PlaceOrder",
        "converter": None,
        "domain_event_type": None,
        "aggregate_type": None,
        "aggregate_id": None,
    }
    return {**values, **changes}
