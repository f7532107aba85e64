"""SQLite: one file, one writer.

Every process writes through a pool of one connection (waiting in that pool costs a tenth of what competing writers cost
each other) and begins with BEGIN IMMEDIATE, because a deferred transaction that upgrades fails at once, whatever the
busy timeout. Queries read through connections that cannot write.

SQLite keeps its promises with WAL and synchronous=FULL: a commit that returned survives a loss of power.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import PoolResetState

from mediator.storage.engines import Weakness

__all__ = ["Sqlite"]

_PRAGMAS = ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_OPTIONS = {"cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout", "uri"}
"""With `uri` there are more, which SQLite itself reads."""
_BUSY = ("database is locked", "database table is locked", "database is busy", "database schema is locked")


class _Connection(sqlite3.Connection):
    """Rolls back when it is closed: of a cancelled task, SQLite keeps the lock until the last cursor is collected."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


class Sqlite:
    """A file, or the memory of this process."""

    drivers: ClassVar[Mapping[str, str]] = {"aiosqlite": "sqlite"}

    def objection(self, url: URL) -> str | None:
        """An option that nobody knows, which SQLAlchemy leaves out with no more than a warning."""
        unknown = sorted(set(url.query) - _OPTIONS)
        if not unknown or "uri" in url.query:
            return None
        return f"correct the options in the URL: {', '.join(unknown)} is none of {', '.join(sorted(_OPTIONS))}"

    def options(self, url: URL, *, read_only: bool, autocommit: bool, brief: bool) -> dict[str, Any]:  # noqa: ARG002
        """What `create_async_engine` is given."""
        return {"connect_args": {"factory": _Connection}, "pool_reset_on_return": None}

    def prepare(self, engine: AsyncEngine, *, read_only: bool, brief: bool) -> None:  # noqa: ARG002
        """Begin and reset as SQLite needs it."""

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, _record: Any) -> None:
            # The driver must not begin transactions by itself: it would begin deferred ones.
            connection.isolation_level = None
            cursor = connection.cursor()
            for pragma in (*_PRAGMAS, f"query_only={'ON' if read_only else 'OFF'}"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

        @event.listens_for(engine.sync_engine, "reset")
        def reset(connection: Any, _record: Any, state: PoolResetState) -> None:
            # SQLAlchemy takes a commit that failed for the end of the transaction; for SQLite it still goes on.
            if state.asyncio_safe and connection.driver_connection.in_transaction:
                connection.rollback()

    async def check(self, connection: AsyncConnection) -> list[Weakness]:  # noqa: ARG002
        """Every connection sets what matters by itself."""
        return []

    def advice(self, error: BaseException) -> str:  # noqa: ARG002
        """What to do when connecting failed."""
        return "Check the path, its permissions and the space on the disk"

    def asks_to_repeat(self, error: BaseException) -> bool:
        """Another process writes."""
        return isinstance(error, DBAPIError) and _is_busy(error.orig)

    def probe(self, file: Path) -> None:
        """Try to write; raises sqlite3.Error. Not through a pool, which forgets a connection that fails at its first
        use, thread and all.
        """
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute("BEGIN IMMEDIATE")
                # A file that may only be read refuses the first write, not the transaction.
                connection.execute(f"PRAGMA user_version = {version}")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise


def _is_busy(error: BaseException | None) -> bool:
    return any(busy in str(error) for busy in _BUSY)
