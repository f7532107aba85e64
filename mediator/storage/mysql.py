"""MariaDB and MySQL: InnoDB, READ COMMITTED, whatever the server's default.

Under REPEATABLE READ gap locks make neighbours wait for each other, and one old snapshot would serve every fetch of a
transaction. A deadlock (1213) rolls the transaction back; a lock timeout (1205) leaves it open: both mean "roll back
and try again".
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from sqlalchemy import BindParameter, event, text
from sqlalchemy.engine import URL, CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mediator.storage.engines import IDLE_SECONDS, POOLED, POOLER, SESSION, ServerSession, UnsuitableError, Weakness

__all__ = ["DUPLICATE_KEY", "LOCK_TIMEOUT", "Impatient", "MySql", "error_number", "lock_wait"]

DUPLICATE_KEY, LOCK_TIMEOUT = 1062, 1205
_CHARSET = "utf8mb4"
_CONNECT_SECONDS, _LOCK_WAIT_SECONDS = 10, 10
_RECYCLE_SECONDS = 1_800
_OLDEST_MARIADB, _OLDEST_MYSQL = (10, 6), (8, 0)
_REPEAT = {
    LOCK_TIMEOUT,
    1213,  # deadlock
    1020,  # record has changed since it was read
    1040,  # too many connections
    1053,  # server shutdown
    1290,  # the server has become read only
    1792,  # the transaction is read only
    1836,  # the server is read only
    1927,  # connection was killed
    2006,  # server has gone away
    2013,  # connection lost
    2055,  # connection lost
    4031,  # disconnected after inactivity
}
_ADVICE = {
    1044: "Grant the user rights on the database",
    1045: "Check the user and the password",
    1698: "Check the user and the password",
    1049: "Create the database first",
    1040: "Raise max_connections, or lower the pools (DatabaseSettings)",
}
_VARIABLES = text(
    "SHOW VARIABLES WHERE Variable_name IN ('version', 'read_only', 'innodb_read_only', 'log_bin', 'binlog_format',"
    " 'tx_read_only', 'transaction_read_only', 'sync_binlog', 'sql_mode', 'wait_timeout',"
    " 'innodb_flush_log_at_trx_commit')"
)
_LOST = "a commit that returned may be lost when the server crashes"
_MISSED = "replicas may miss commits after a crash"
_IDLE = f"connections that were idle for so long fail at first; keep it at {_RECYCLE_SECONDS} s or more"
_CUT = "values that are too long for their column are cut without an error"


class MySql:
    """MariaDB 10.6 or MySQL 8, or newer."""

    drivers: ClassVar[Mapping[str, str]] = {"asyncmy": "mysql"}

    def objection(self, url: URL) -> str | None:
        """Another character set: the server would put question marks for what it lacks, in payloads as well."""
        charset = url.query.get("charset", _CHARSET)
        return None if str(charset).lower() == _CHARSET else f"leave charset out of the URL: it is always {_CHARSET}"

    def options(self, url: URL, *, read_only: bool, autocommit: bool, brief: bool) -> dict[str, Any]:  # noqa: ARG002
        """What `create_async_engine` is given."""
        return {
            "isolation_level": "AUTOCOMMIT" if autocommit else "READ COMMITTED",
            "connect_args": {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS},
            "pool_recycle": _RECYCLE_SECONDS,
        }

    def prepare(self, engine: AsyncEngine, *, read_only: bool, brief: bool) -> None:
        """Remember what the server knows the connection by."""

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, record: Any) -> None:
            record.info[SESSION] = ServerSession.of(connection.driver_connection.thread_id())
            cursor = connection.cursor()
            # A statement that is cancelled goes on in the server, with all its transaction's locks.
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT_SECONDS}")
            if brief and "mariadb" in connection.driver_connection.get_server_info().lower():
                # MySQL has nothing of the kind.
                cursor.execute(f"SET SESSION idle_transaction_timeout = {IDLE_SECONDS}")
            if read_only:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.close()

    async def check(self, connection: AsyncConnection) -> list[Weakness]:
        """The version, whether it can be written, and how durable commits are."""
        # Not SELECT @@name, which fails for names that a version does not have any more.
        found: dict[str, str] = {name: value for name, value in await connection.execute(_VARIABLES)}  # noqa: C416
        version = tuple(int(part) for part in found["version"].split("-")[0].split(".")[:2])
        is_mariadb = "mariadb" in found["version"].lower()
        if version < (_OLDEST_MARIADB if is_mariadb else _OLDEST_MYSQL):
            raise UnsuitableError(f"its version is {found['version']}", "Use MariaDB 10.6 or MySQL 8, or newer")
        if "ON" in (found["read_only"], found["innodb_read_only"]):
            raise UnsuitableError("the server is read only", "Use the address of the primary")
        if "ON" in (found.get("tx_read_only"), found.get("transaction_read_only")):
            raise UnsuitableError("transaction_read_only is on", "Use a session that may write: look for what sets it")
        has_binlog = found["log_bin"] == "ON"
        if has_binlog and found.get("binlog_format") == "STATEMENT":
            raise UnsuitableError(
                "binlog_format is STATEMENT, which does not go with READ COMMITTED", "Use ROW or MIXED"
            )
        weak = []
        if await connection.scalar(text("SELECT CONNECTION_ID()")) != connection.info[SESSION].number:
            weak.append(Weakness("address", POOLER, POOLED))
        return weak + [
            Weakness(name, found[name], why)
            for name, is_weak, why in (
                ("innodb_flush_log_at_trx_commit", found["innodb_flush_log_at_trx_commit"] != "1", _LOST),
                ("sync_binlog", has_binlog and found["sync_binlog"] != "1", _MISSED),
                ("sql_mode", "STRICT_" not in found["sql_mode"], _CUT),
                ("wait_timeout", int(found["wait_timeout"]) < _RECYCLE_SECONDS, _IDLE),
            )
            if is_weak
        ]

    def advice(self, error: BaseException) -> str:
        """What to do when connecting failed."""
        number = error_number(error)
        return _ADVICE.get(number, "Check the address, and that the server runs and lets this machine in")

    def asks_to_repeat(self, error: BaseException) -> bool:
        """Deadlocks, lock timeouts; a server that goes away or may not be written."""
        return error_number(error) in _REPEAT


def error_number(error: BaseException) -> int:
    """The server's or driver's number of an error, 0 when it has none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


@asynccontextmanager
async def lock_wait(connection: AsyncConnection, seconds: int) -> AsyncIterator[None]:
    """Statements in the block wait so long at most for a row lock."""
    await connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {seconds}")
    try:
        yield
    finally:
        await connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT_SECONDS}")


class Impatient:
    """A statement that waits so long at most for a row lock; error 1205 says that it was not long enough."""

    def __init__(self, statement: str, parameters: Sequence[BindParameter[Any]], wait_seconds: int) -> None:
        self._seconds = wait_seconds
        self._mysql = text(statement).bindparams(*parameters)
        timeout = f"innodb_lock_wait_timeout = {wait_seconds}"
        self._mariadb = text(f"SET STATEMENT {timeout} FOR {statement}").bindparams(*parameters)

    async def execute(self, connection: AsyncConnection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it; MariaDB can say so for a single statement, MySQL only for the session."""
        if getattr(connection.dialect, "is_mariadb", False):
            return await connection.execute(self._mariadb, values)
        async with lock_wait(connection, self._seconds):
            return await connection.execute(self._mysql, values)
