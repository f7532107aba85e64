"""A database of the test's own, on each server that the toolkit runs on.

Every test has a new database, which is gone when it ends, however it ends: connections that are still open are cut off
first. What runs that died have left is dropped by a later run, once it is an hour old. (To make and to drop one takes
PostgreSQL longer than most tests do, so it is emptied and gets another name instead, for the next test.)

    MEDIATOR_TEST_POSTGRESQL    where the servers are, as URLs; without them, the loopback addresses below
    MEDIATOR_TEST_MARIADB
    MEDIATOR_TEST_MYSQL         when set, tests for every database run on this one as well

The user that a URL names may make and drop databases and end connections.
"""

import asyncio
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import uuid4

from anyio.from_thread import start_blocking_portal
from sqlalchemy import Executable, NullPool, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

__all__ = ["DATABASES", "SERVERS", "Servers", "Unreachable", "every_database", "execute", "in_a_thread"]

T = TypeVar("T")

_CONNECT_SECONDS = 5
_LEFTOVER_SECONDS = 3600
_END_SECONDS = 20


class Unreachable(Exception):  # noqa: N818 - a state of the machine, no mistake
    """A server does not answer; says where it was looked for, and how to name another place.

    Whoever needs a server lets it pass: tests/conftest.py makes a skip of it that is counted, and in CI a failure.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service}: {reason}")
        self.service = service


class Server(ABC):
    """Where a server is, the driver that tests use, and its way to say a few things."""

    def __init__(self, driver: str, variable: str, address: str = "") -> None:
        self.driver, self.variable, self.address = driver, variable, address

    @property
    def is_expected(self) -> bool:
        """Whether it has a usual place, or somebody named one."""
        return bool(os.environ.get(self.variable) or self.address)

    @property
    def url(self) -> URL:
        """Where databases are made from."""
        url = make_url(os.environ.get(self.variable) or self.address)
        return url.set(drivername=f"{url.get_backend_name()}+{self.driver}")

    @abstractmethod
    async def names(self, connection: AsyncConnection) -> list[str]:
        """All its databases."""

    async def renew(self, connection: AsyncConnection, database: str, name: str) -> bool:
        """Make an empty database, with another name, of one that may be in use; False where it is not worth it."""
        return False

    @abstractmethod
    async def drop(self, connection: AsyncConnection, database: str) -> None:
        """Drop a database if it is there, whoever uses it."""


class PostgreSQL(Server):
    """A server of PostgreSQL."""

    async def names(self, connection: AsyncConnection) -> list[str]:
        return list(await connection.scalars(text("SELECT datname FROM pg_database")))

    async def renew(self, connection: AsyncConnection, database: str, name: str) -> bool:
        if not await connection.scalar(_IS_AS_MADE, {"database": database}):
            return False
        async with asyncio.timeout(_END_SECONDS):
            while await connection.scalar(_END_SESSIONS, {"database": database}):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        # Under another name, nobody comes back to it.
        await connection.execute(text(f"ALTER DATABASE {database} RENAME TO {name}"))
        engine = create_async_engine(self.url.set(database=name), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        async with engine.connect() as inside:
            for schema in list(await inside.scalars(_SCHEMAS)):
                await inside.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
            await inside.execute(text("CREATE SCHEMA public AUTHORIZATION pg_database_owner"))
            await inside.execute(text("GRANT USAGE ON SCHEMA public TO public"))
        return True

    async def drop(self, connection: AsyncConnection, database: str) -> None:
        await connection.execute(text(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)"))


_IS_AS_MADE = text(
    "SELECT current_setting('server_version_num')::int >= 150000 AND datacl IS NULL AND NOT EXISTS "
    "(SELECT FROM pg_db_role_setting WHERE setdatabase = pg_database.oid) FROM pg_database WHERE datname = :database"
)
"""Whether nobody set anything for a database or changed the rights on it; before 15, a schema has other rights."""
_END_SESSIONS = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :database")
_SCHEMAS = text(r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'")


class MySQL(Server):
    """A server of MariaDB or MySQL."""

    async def names(self, connection: AsyncConnection) -> list[str]:
        return list(await connection.scalars(text("SHOW DATABASES")))

    async def drop(self, connection: AsyncConnection, database: str) -> None:
        users = "SELECT id FROM information_schema.processlist WHERE db = :database"
        for user in list(await connection.scalars(text(users), {"database": database})):
            with suppress(DBAPIError):  # it may have gone by itself
                await connection.execute(text(f"KILL {user}"))
        await connection.execute(text("SET SESSION lock_wait_timeout = 20"))
        await connection.execute(text(f"DROP DATABASE IF EXISTS {database}"))


_POSTGRESQL = ("MEDIATOR_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres")

SERVERS: Mapping[str, Server] = {
    "postgresql": PostgreSQL("asyncpg", *_POSTGRESQL),
    "psycopg": PostgreSQL("psycopg", *_POSTGRESQL),
    "mariadb": MySQL("asyncmy", "MEDIATOR_TEST_MARIADB", "mysql://root@127.0.0.1:3306"),
    "mysql": MySQL("asyncmy", "MEDIATOR_TEST_MYSQL"),
}
DATABASES = ("sqlite", *SERVERS)
"""The names that `@pytest.mark.databases` takes and that test ids show."""


def every_database() -> tuple[str, ...]:
    """What a test for every database runs on: each kind with one driver, MySQL where there is one."""
    return ("sqlite", "postgresql", "mariadb", *(["mysql"] if SERVERS["mysql"].is_expected else []))


class Servers:
    """Makes databases, over one connection to each server, from a thread with a loop of its own."""

    def __init__(self) -> None:
        self._engines: dict[str, AsyncEngine | Unreachable] = {}
        self._renewed: dict[str, list[str]] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._portal = self._exit.enter_context(start_blocking_portal())
        return self

    def __exit__(self, *_error: object) -> None:
        with self._exit:
            for name, databases in self._renewed.items():
                for database in databases:
                    self.drop(name, database)
            for engine in self._engines.values():
                if isinstance(engine, AsyncEngine):
                    self._portal.call(engine.dispose)

    @contextmanager
    def new_database(self, name: str, folder: Path) -> Iterator[str]:
        """The URL of a database that exists for the time of the block; raises Unreachable."""
        if name == "sqlite":
            yield f"sqlite+aiosqlite:///{folder / 'test.db'}"
            return
        renewed = self._renewed.setdefault(name, [])
        if renewed:
            database = renewed.pop()
        else:
            database = _new_name()
            self.create(name, database)
        try:
            yield SERVERS[name].url.set(database=database).render_as_string(hide_password=False)
        finally:
            other = _new_name()
            if self._portal.call(_renew, self._engine(name), SERVERS[name], database, other):
                renewed.append(other)
            else:
                self.drop(name, database)

    def create(self, name: str, database: str) -> None:
        """Make a database on a server."""
        self._portal.call(_create, self._engine(name), database)

    def drop(self, name: str, database: str) -> None:
        """Drop a database that is there, whoever uses it."""
        self._portal.call(_drop, self._engine(name), SERVERS[name], database)

    def _engine(self, name: str) -> AsyncEngine:
        if name not in self._engines:
            self._engines[name] = self._portal.call(_connect, name)
        engine = self._engines[name]
        if isinstance(engine, Unreachable):
            raise engine
        return engine


async def _connect(name: str) -> AsyncEngine | Unreachable:
    server = SERVERS[name]
    if not server.is_expected:
        return Unreachable(name, f"nobody said where it is: set {server.variable} to a URL")
    engine = create_async_engine(
        server.url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0, pool_pre_ping=True
    )
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await _ping(engine)
        async with engine.connect() as connection:
            for database in await server.names(connection):
                if _is_leftover(database):
                    with suppress(DBAPIError):  # another worker may be doing it
                        await server.drop(connection, database)
    except (OSError, DBAPIError) as error:
        await engine.dispose()
        place = server.url.render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", error)).partition("\n")[0] or type(error).__name__
        return Unreachable(name, f"{place} does not answer ({reason}): start it, or set {server.variable} to a URL")
    return engine


async def _ping(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def _new_name() -> str:
    return f"mediator_test_{int(time.time())}_{os.getpid()}_{uuid4().hex[:12]}"


def _is_leftover(database: str) -> bool:
    named = re.fullmatch(r"mediator_test_(\d+)_\d+_[0-9a-f]+", database)
    return named is not None and int(named[1]) < time.time() - _LEFTOVER_SECONDS


async def _create(engine: AsyncEngine, database: str) -> None:
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {database}"))


async def _renew(engine: AsyncEngine, server: Server, database: str, name: str) -> bool:
    async with engine.connect() as connection:
        return await server.renew(connection, database, name)


async def _drop(engine: AsyncEngine, server: Server, database: str) -> None:
    async with engine.connect() as connection:
        await server.drop(connection, database)


def execute(url: str, statement: str | Executable, parameters: Mapping[str, Any] | None = None) -> list[Any]:
    """Do one thing to a database from outside of the application, in a transaction of its own; gives the rows."""
    return in_a_thread(_execute(url, text(statement) if isinstance(statement, str) else statement, parameters))


async def _execute(url: str, statement: Executable, parameters: Mapping[str, Any] | None) -> list[Any]:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        done = await connection.execute(statement, parameters)
        return list(done) if done.returns_rows else []


def in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, whether or not a loop is running here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
