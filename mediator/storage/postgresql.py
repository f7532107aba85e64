"""PostgreSQL: READ COMMITTED, whatever the server's default.

Under REPEATABLE READ the second of two deliveries of an event would fail (40001) instead of finding that the first one
has claimed it. Queries run in read-only transactions. Reads of the toolkit's own need no transaction and have none.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, ClassVar

from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mediator.storage.engines import IDLE_SECONDS, POOLED, POOLER, SESSION, ServerSession, UnsuitableError, Weakness

__all__ = ["LOCK_NOT_AVAILABLE", "PostgreSql", "error_state", "lock_number"]

LOCK_NOT_AVAILABLE = "55P03"
_OLDEST = 130_000
_CONNECT_SECONDS = 10
_IDLE = "idle_in_transaction_session_timeout"
_REPEAT = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    LOCK_NOT_AVAILABLE,
    "25006",  # the server has become read only
    "53300",  # too many connections
    "57P01",  # shut down by an administrator
    "57P02",  # crashed
    "57P03",  # starting up
    "57P05",  # idle for too long
}
_CONNECT = "GRANT CONNECT ON DATABASE ... TO the user of the application"
_ADVICE = {
    "42501": _CONNECT,
    "28P01": "Check the user and the password",
    "28000": "Check the user, and what pg_hba.conf allows",
    "3D000": "Create the database first",
    "53300": "Raise max_connections, or lower the pools (DatabaseSettings)",
}
_WEAK = (
    ("synchronous_commit", {"off"}, "a commit that returned may be lost when the server crashes"),
    ("fsync", {"off"}, "a crash of the machine may destroy the database"),
    ("full_page_writes", {"off"}, "a crash of the machine may destroy pages"),
)
_SCHEMA_OF = text(
    "SELECT COALESCE((SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE c.oid = to_regclass(CAST(:table AS text))), current_schema())"
)
_STRICTER = "the toolkit's connections use READ COMMITTED instead"


class PostgreSql:
    """PostgreSQL 13 or newer."""

    drivers: ClassVar[Mapping[str, str]] = {"asyncpg": "postgresql", "psycopg": "psycopg"}

    def objection(self, url: URL) -> str | None:  # noqa: ARG002
        """None: the driver objects itself."""
        return None

    def options(self, url: URL, *, read_only: bool, autocommit: bool, brief: bool) -> dict[str, Any]:
        """What `create_async_engine` is given."""
        is_asyncpg = url.get_driver_name() == "asyncpg"
        timeout = "timeout" if is_asyncpg else "connect_timeout"
        arguments: dict[str, Any] = {} if timeout in url.query else {timeout: _CONNECT_SECONDS}
        if brief and is_asyncpg:
            arguments["server_settings"] = {_IDLE: f"{IDLE_SECONDS}s"}
        elif brief:
            arguments["options"] = f"{url.query.get('options', '')} -c {_IDLE}={IDLE_SECONDS}s".strip()
        return {
            "isolation_level": "AUTOCOMMIT" if autocommit else "READ COMMITTED",
            "execution_options": {"postgresql_readonly": True} if read_only else {},
            "connect_args": arguments,
        }

    def prepare(self, engine: AsyncEngine, *, read_only: bool, brief: bool) -> None:  # noqa: ARG002
        """Remember what the server knows the connection by."""

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, record: Any) -> None:
            driver: Any = connection.driver_connection
            pid = driver.get_server_pid() if hasattr(driver, "get_server_pid") else driver.info.backend_pid
            record.info[SESSION] = ServerSession.of(pid)

    async def check(self, connection: AsyncConnection) -> list[Weakness]:
        """The version, whether it can be written, and how durable commits are."""
        names = [
            "server_version_num",
            "server_encoding",
            "default_transaction_isolation",
            *(name for name, *_ in _WEAK),
        ]
        settings = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
        facts = (
            "pg_backend_pid() AS pid, pg_is_in_recovery() AS standby,"
            " current_setting('default_transaction_read_only') AS read_only"
        )
        found = (await connection.execute(text(f"SELECT {settings}, {facts}"))).mappings().one()
        if int(found["server_version_num"]) < _OLDEST:
            raise UnsuitableError(f"PostgreSQL {found['server_version_num']}", "Use PostgreSQL 13 or newer")
        if found["standby"]:
            raise UnsuitableError("the server is a read-only replica", "Use the address of the primary")
        if found["read_only"] == "on":
            raise UnsuitableError("default_transaction_read_only is on", "Use a role that may write")
        if found["server_encoding"] != "UTF8":
            raise UnsuitableError(f"its encoding is {found['server_encoding']}", "Use a database in UTF8")
        weak = [Weakness(name, found[name], why) for name, values, why in _WEAK if found[name] in values]
        if found["pid"] != connection.info[SESSION].number:
            weak.append(Weakness("address", POOLER, POOLED))
        if found["default_transaction_isolation"] != "read committed":
            weak.append(Weakness("default_transaction_isolation", found["default_transaction_isolation"], _STRICTER))
        return weak

    async def schema_of(self, connection: AsyncConnection, table: str) -> str:
        """Where a table is found that is named without a schema, or would be made."""
        return str(await connection.scalar(_SCHEMA_OF, {"table": table}))

    def advice(self, error: BaseException) -> str:
        """What to do when connecting failed."""
        if "FATAL:" in str(error) and not error_state(error):
            # psycopg gives no code here; but the server has answered.
            if "CONNECT privilege" in str(error):
                return _CONNECT
            return "Check the user, the password and the name of the database"
        return _ADVICE.get(error_state(error), "Check the address, and that the server runs and lets this machine in")

    def asks_to_repeat(self, error: BaseException) -> bool:
        """Deadlocks, lock timeouts, conflicts of transactions; a server that goes away or may not be written."""
        state = error_state(error)
        return state in _REPEAT or state.startswith("08")


def error_state(error: BaseException) -> str:
    """The server's code of an error (SQLSTATE), empty when it has none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""


def lock_number(*names: str) -> int:
    """The 64-bit number of an advisory lock; no two names of a database share one, as far as hashes go."""
    digest = blake2b("\0".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
