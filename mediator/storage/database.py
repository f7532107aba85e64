"""A database: its engines, its traps, and the toolkit's tables in it.

SQLite has one writer. Every process therefore writes through a pool of one connection (waiting in that pool costs a
tenth of what competing writers cost each other) and begins with BEGIN IMMEDIATE, because a deferred transaction that
upgrades fails at once, whatever the busy timeout. Queries read through connections that cannot write.

SQLite keeps its promises with WAL and synchronous=FULL: a commit that returned survives a loss of power.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolResetState

from mediator.errors import DatabaseUnavailableError, SettingsError
from mediator.storage.tables import Tables

__all__ = ["COMMIT_GUARD", "Database", "checked_url", "is_transient"]


_OURS = "mediator_engine"
COMMIT_GUARD = "mediator.commit_guard"
"""Under this name in `connection.info`: a function that is called before every commit and may refuse it."""
_PRAGMAS = ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_BUSY = ("database is locked", "database table is locked", "database is busy", "database schema is locked")


class _Connection(sqlite3.Connection):
    """Rolls back when it is closed: of a cancelled task, SQLite keeps the lock until the last cursor is collected."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


class _Pool(AsyncAdaptedQueuePool):
    """Marks its own time-outs, for which there is no event."""

    def _do_get(self) -> Any:
        try:
            return super()._do_get()
        except PoolTimeoutError as error:
            error.__dict__[_OURS] = True
            raise


class Database:
    """Engines for writing and reading, and the toolkit's tables."""

    def __init__(self, url: str | URL, tables: Tables | None = None) -> None:
        self.url = checked_url(url)
        self.tables = tables or Tables()
        self.name = self.url.render_as_string(hide_password=True)
        self._in_memory = self.url.database in (None, "", ":memory:")
        self.writer = self._engine(pool_size=1)
        self.reader = self.writer if self._in_memory else self._engine(pool_size=5, query_only=True)
        # Of its own: queries that are left open must not keep the relay and the retries from looking.
        self._own_reader = self.writer if self._in_memory else self._engine(pool_size=3, query_only=True)

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None when the database lives in memory."""
        return None if self._in_memory else Path(self.url.database or "")

    async def open(self) -> None:
        """Connect once; raises DatabaseUnavailableError that says why it cannot work."""
        if self.file is None:
            return
        if not self.file.absolute().parent.is_dir():
            raise DatabaseUnavailableError(self.name, f"there is no folder {self.file.parent}", "Make it first")
        try:
            _probe(self.file)
        except sqlite3.Error as error:
            raise DatabaseUnavailableError(
                self.name, str(error), "Check the path, its permissions and the space on the disk"
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()
            await self._own_reader.dispose()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A short transaction of the toolkit's own; commits at the end, rolls back on an error."""
        async with self.writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for the toolkit's statements that only read."""
        async with self._own_reader.connect() as connection:
            yield connection

    def _create(self, pool_size: int) -> AsyncEngine:
        try:
            return create_async_engine(
                self.url,
                connect_args={"factory": _Connection},
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=60,
                hide_parameters=True,
                pool_reset_on_return=None,
                poolclass=_Pool,
            )
        except ModuleNotFoundError as error:
            fix = f"its driver {error.name} is not installed: install mediator-toolkit[sqlite]"
            raise SettingsError("database", self.name, fix) from error

    def _engine(self, *, pool_size: int, query_only: bool = False) -> AsyncEngine:
        engine = self._create(pool_size)

        @event.listens_for(engine.sync_engine, "handle_error")
        def mark(context: ExceptionContext) -> None:
            # A handler may have an engine of its own, whose troubles are the handler's.
            if context.sqlalchemy_exception is not None:
                context.sqlalchemy_exception.__dict__[_OURS] = True

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, _record: Any) -> None:
            # The driver must not begin transactions by itself: it would begin deferred ones.
            connection.isolation_level = None
            cursor = connection.cursor()
            for pragma in (*_PRAGMAS, f"query_only={'ON' if query_only else 'OFF'}"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN" if query_only else "BEGIN IMMEDIATE")

        @event.listens_for(engine.sync_engine, "reset")
        def reset(connection: Any, _record: Any, state: PoolResetState) -> None:
            # SQLAlchemy takes a commit that failed for the end of the transaction; for SQLite it still goes on.
            if state.asyncio_safe and connection.driver_connection.in_transaction:
                connection.rollback()

        @event.listens_for(engine.sync_engine, "commit")
        def guard_commit(connection: Any) -> None:
            if COMMIT_GUARD in connection.info:
                connection.info[COMMIT_GUARD]()

        return engine


def _probe(file: Path) -> None:
    # Not through the pool, which forgets a connection that fails at its first use, thread and all.
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if not any(busy in str(error) for busy in _BUSY):
                raise


def checked_url(url: str | URL) -> URL:
    """The URL of a database that this version supports; raises SettingsError that says what to use."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(
            "database", "***", "use a URL such as sqlite+aiosqlite:///shop.db (four slashes for an absolute path)"
        ) from error
    if parsed.get_backend_name() != "sqlite":
        raise SettingsError(
            "database", parsed.render_as_string(hide_password=True), "this version supports sqlite+aiosqlite URLs"
        )
    if parsed.get_driver_name() != "aiosqlite":
        raise SettingsError(
            "database", parsed.render_as_string(hide_password=True), "use the asyncio driver: sqlite+aiosqlite://…"
        )
    return parsed


def is_transient(error: BaseException) -> bool:
    """Whether the database asks to roll back and try again: no fault of the handler, so no attempt is counted."""
    if _OURS not in error.__dict__:
        return False
    if isinstance(error, PoolTimeoutError):
        return True
    if isinstance(error, (OperationalError, InterfaceError)):
        return error.connection_invalidated or any(busy in str(error.orig) for busy in _BUSY)
    return False
