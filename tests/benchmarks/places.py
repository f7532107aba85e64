"""Databases to measure on: a new one on each server that answers, dropped at the end."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url, text

from mediator.storage.database import Database
from mediator.storage.schema import create_schema
from tests.benchmarks.measuring import Scale, Table
from tests.support import create_tables
from tests.support.databases import Servers, Unreachable

__all__ = ["Place", "on_each"]

_VERSION = {"sqlite": "SELECT sqlite_version()", "postgresql": "SHOW server_version", "mysql": "SELECT version()"}
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}


@dataclass(frozen=True)
class Place:
    """A database of the benchmark's own."""

    name: str
    url: str
    title: str
    """The server and its version."""

    async def database(self, prefix: str) -> Database:
        """The toolkit's tables, under a prefix."""
        database = Database(self.url, prefix=prefix)
        await database.open()
        await create_schema(database)
        return database


async def on_each(
    names: Sequence[str], benchmark: Callable[[Place, Scale], Awaitable[Sequence[Table]]], scale: Scale
) -> Sequence[Table]:
    """Run a benchmark on each of these; one that does not answer is left out."""
    tables: list[Table] = []
    with TemporaryDirectory() as folder, Servers() as servers:
        for name in names:
            if name not in scale.on:
                continue
            try:
                with servers.new_database(name, Path(folder)) as url:
                    tables += await benchmark(Place(name, url, await _title(name, url)), scale)
            except Unreachable as error:
                print(f"left out, {name}: {error}", file=sys.stderr)
            await asyncio.sleep(0)
    return tables


async def _title(name: str, url: str) -> str:
    await create_tables(url)
    database = Database(url)
    async with database.read() as connection:
        version = await connection.scalar(text(_VERSION[make_url(url).get_backend_name()]))
    await database.close()
    return f"{_NAMES[name]} {str(version).split()[0].split('-')[0]}"
