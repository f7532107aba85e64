"""What is stored: rows as the tables' types read them, and waiting until they are as they should be."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Executable, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.database import Database
from tests.support import databases

__all__ = ["end_session", "eventually", "execute", "outbox_row", "session_of", "stored"]

Row = Mapping[str, Any]


async def stored(url: str, table: str) -> list[Row]:
    """The committed rows of a table of the toolkit, in the order of insertion or of their key."""
    database = Database(url)
    rows = getattr(database.tables, table)
    order = [rows.c.position] if "position" in rows.c else rows.primary_key.columns
    try:
        async with database.read() as connection:
            found = await connection.execute(select(rows).order_by(*order))
            return [dict(row) for row in found.mappings()]
    finally:
        await database.close()


def execute(url: str, statement: str | Executable, *parameters: object) -> list[Any]:
    """Do one thing from outside of the application; in a text, each `?` stands for a parameter. Gives the rows."""
    if not isinstance(statement, str):
        return databases.execute(url, statement)
    with_names, *rest = statement.split("?")
    named = {f"parameter_{number}": value for number, value in enumerate(parameters)}
    for name, part in zip(named, rest, strict=True):
        with_names += f":{name}{part}"
    return databases.execute(url, with_names, named)


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
        "at": None,
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


async def session_of(connection: AsyncConnection) -> int:
    """The number by which the server knows a connection."""
    own = "SELECT pg_backend_pid()" if connection.dialect.name == "postgresql" else "SELECT CONNECTION_ID()"
    return int((await connection.execute(text(own))).scalar_one())


def end_session(url: str, number: int) -> None:
    """Cut a connection off, as an administrator does."""
    execute(url, f"SELECT pg_terminate_backend({number})" if "postgresql" in url else f"KILL {number}")
