"""A database: its engines, and the toolkit's tables in it.

    writer     units of work                             reader     queries: connections that cannot write
    begin()    short transactions of the toolkit's own   read()     its statements that only read

The toolkit's own connections are apart from those of units of work, so that handlers which take all of them, and
queries that are left open, do not keep the relay and the retries from working. (SQLite has one writer: there
everybody waits for one connection.)
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mediator.errors import DatabaseUnavailableError, SettingsError
from mediator.storage.engines import (
    POOLER,
    Server,
    UnsuitableError,
    Weakness,
    brief,
    has_spilt_password,
    is_answer,
    is_connecting,
    make_engine,
    shown,
)
from mediator.storage.mysql import MySql
from mediator.storage.postgresql import PostgreSql
from mediator.storage.sqlite import Sqlite
from mediator.storage.tables import Tables

__all__ = ["Database", "DatabaseSettings", "checked_url"]

log = structlog.get_logger(__name__)
_OWN_WRITERS, _OWN_READERS = 3, 3
_OPEN_SECONDS = 15
_SERVERS: dict[str, type[Server]] = {
    "sqlite": Sqlite,
    "postgresql": PostgreSql,
    "mysql": MySql,
    "mariadb": MySql,
}
_EXAMPLE = "use a URL such as sqlite+aiosqlite:///shop.db (four slashes for an absolute path)"


class DatabaseSettings(BaseModel):
    """How many connections a process opens to a database; SQLite has one writer whatever this says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: int = Field(default=10, ge=1, le=1_000, description="units of work at the same time")
    reading_connections: int = Field(default=5, ge=1, le=1_000, description="queries at the same time")


class Database:
    """Engines for writing and reading, and the toolkit's tables."""

    def __init__(
        self,
        url: str | URL,
        *,
        prefix: str = "mediator_",
        schema: str | None = None,
        settings: DatabaseSettings | None = None,
        partitioned_inbox: bool = False,
    ) -> None:
        self.url = checked_url(url)
        self.dialect = self.url.get_backend_name()
        self.tables = Tables(prefix, schema, self.dialect, partitioned_inbox=partitioned_inbox)
        self.tables.place = f"{schema or self.url.database}.{prefix}"
        self.name = shown(self.url)
        self._in_memory = self.dialect == "sqlite" and self.url.database in (None, "", ":memory:")
        self._server = _SERVERS[self.dialect]()
        self.sees_sessions = True
        """Whether the server knows connections by the numbers that they know of themselves (SESSION)."""
        self.weaknesses: Sequence[Weakness] = ()
        """What was found when it was opened."""
        sizes = settings or DatabaseSettings()
        if self.dialect == "sqlite":
            self.writer = self._own_writer = self._engine(1)
            self.reader = self.writer if self._in_memory else self._engine(5, read_only=True)
            self._own_reader = self.writer if self._in_memory else self._engine(_OWN_READERS, read_only=True)
        else:
            self.writer, self._own_writer = self._engine(sizes.connections), self._engine(_OWN_WRITERS, brief=True)
            self.reader = self._engine(sizes.reading_connections, read_only=True)
            self._own_reader = self._engine(_OWN_READERS, autocommit=True)

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @property
    def has_one_writer(self) -> bool:
        """Whether everybody who writes waits for one connection."""
        return self.dialect == "sqlite"

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None when there is none."""
        return None if self.dialect != "sqlite" or self._in_memory else Path(self.url.database or "")

    async def open(self) -> None:
        """Connect once; raises DatabaseUnavailableError that says why it cannot work, and warns of weak settings."""
        if isinstance(self._server, Sqlite):
            if self.file is not None:
                self._try_file(self._server, self.file)
            return
        try:
            # A server that accepts and never answers is not covered by the drivers' own time-outs.
            async with asyncio.timeout(_OPEN_SECONDS), self.read() as connection:
                weaknesses = await self._server.check(connection)
                await self._find_place(connection)
        except TimeoutError as error:
            why = "the server did not answer in time"
            raise DatabaseUnavailableError(self.name, why, self._server.advice(error)) from error
        except UnsuitableError as error:
            raise DatabaseUnavailableError(self.name, error.why, error.fix) from error
        except InvalidRequestError as error:
            # SQLAlchemy says so for mariadb:// and a server that is MySQL.
            raise DatabaseUnavailableError(self.name, brief(error), "Use a URL that begins with mysql+") from error
        except (TypeError, ValueError, ProgrammingError) as error:
            # An option in the URL that the driver does not know, or not with this value; unless the server said no.
            fix = self._server.advice(error) if is_answer(error) else "Correct the options in the URL"
            raise DatabaseUnavailableError(self.name, brief(error), fix) from error
        except Exception as error:
            if not is_connecting(error):
                raise
            original = error.orig if isinstance(error, DBAPIError) else error
            why = f"{type(original).__name__}: {brief(error)}"
            raise DatabaseUnavailableError(self.name, why, self._server.advice(error)) from error
        self.weaknesses = weaknesses
        self.sees_sessions = all(weak.value != POOLER for weak in weaknesses)
        for weak in weaknesses:
            log.warning(
                "database.setting_weakens_promises",
                database=self.name,
                setting=weak.setting,
                value=weak.value,
                consequence=weak.consequence,
            )

    async def _find_place(self, connection: AsyncConnection) -> None:
        if isinstance(self._server, PostgreSql) and self.tables.schema is None:
            found = await self._server.schema_of(connection, self.tables.meta.name)
            self.tables.place = f"{found}.{self.tables.prefix}"

    def advice(self, error: BaseException) -> str:
        """What to do about an error of connecting."""
        return self._server.advice(error)

    async def close(self) -> None:
        """Close every connection."""
        for engine in {id(one): one for one in (self.writer, self.reader, self._own_writer, self._own_reader)}.values():
            await engine.dispose()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A short transaction of the toolkit's own; commits at the end, rolls back on an error."""
        async with self._own_writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for the toolkit's statements that only read."""
        async with self._own_reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see the database at one moment."""
        if self.dialect == "sqlite":
            async with self.read() as connection:
                yield connection
            return
        async with self._own_writer.connect() as connection:
            # As a statement: what a driver raises in its own setter passes by SQLAlchemy.
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def uncommitted(self) -> AsyncIterator[AsyncConnection]:
        """A connection to MariaDB or MySQL whose statements see what others have not committed yet."""
        async with self._own_writer.connect() as connection:
            # For this transaction only. A level of the session would stay with the connection, in its pool.
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
            yield connection

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[AsyncConnection]:
        """A connection apart from every pool and without transactions: for locks that die with it, for listening."""
        engine = make_engine(self._server, self.url, size=None, autocommit=True)
        connection = await engine.connect()
        try:
            yield connection
        finally:
            # It may be broken, by the very error that ended its use: there is nothing to roll back, and nothing to say.
            await connection.invalidate()
            await connection.close()
            await engine.dispose()

    def _engine(
        self, size: int, *, read_only: bool = False, autocommit: bool = False, brief: bool = False
    ) -> AsyncEngine:
        return make_engine(self._server, self.url, size=size, read_only=read_only, autocommit=autocommit, brief=brief)

    def _try_file(self, server: Sqlite, file: Path) -> None:
        if not file.absolute().parent.is_dir():
            raise DatabaseUnavailableError(self.name, f"there is no folder {file.parent}", "Make it first")
        try:
            server.probe(file)
        except sqlite3.Error as error:
            raise DatabaseUnavailableError(self.name, str(error), server.advice(error)) from error


def checked_url(url: str | URL) -> URL:
    """The URL of a database that this version supports; raises SettingsError that says what to use."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SettingsError("database", "***", _EXAMPLE) from error
    if has_spilt_password(parsed):
        raise SettingsError("database", "***", "write @ in a password as %40")
    server = _SERVERS.get(parsed.get_backend_name())
    hidden = shown(parsed)
    if server is None:
        raise SettingsError("database", hidden, "this version supports sqlite, postgresql, mariadb and mysql URLs")
    name = parsed.drivername.partition("+")[2]
    if name not in server.drivers:
        drivers = " or ".join(f"{parsed.get_backend_name()}+{driver}://…" for driver in server.drivers)
        raise SettingsError("database", hidden, f"use an asyncio driver: {drivers}")
    if not parsed.database and parsed.get_backend_name() != "sqlite":
        raise SettingsError("database", hidden, "name the database at its end: …/shop")
    if (fix := server().objection(parsed)) is not None:
        raise SettingsError("database", hidden, fix)
    return parsed
