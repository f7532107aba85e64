"""Connections are what they have to be; what is wrong with a database is told, and what will pass is known.

SQLite keeps its promises with WAL, synchronous=FULL and BEGIN IMMEDIATE; all of it is read back here.
"""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from mediator.errors import DatabaseUnavailableError, SettingsError
from mediator.storage import engines
from mediator.storage.database import Database, checked_url
from mediator.storage.engines import is_transient
from mediator.storage.sqlite import Sqlite
from tests.storage.drivers import EVERY_DRIVER, ON_MYSQL, ON_POSTGRESQL, ON_SERVERS
from tests.storage.rows import eventually, execute, session_of

FACTS = ["routes", "schema_version", "slots"]


async def pragma(database: Database, name: str, *, writing: bool) -> object:
    async with database.begin() if writing else database.read() as connection:
        return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()


@pytest.mark.parametrize("writing", [True, False])
@pytest.mark.parametrize(
    ("name", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", 5_000), ("foreign_keys", 1)]
)
async def test_every_connection_is_set_up(database: Database, name: str, value: object, writing: bool) -> None:
    assert await pragma(database, name, writing=writing) == value


async def test_connections_for_reading_cannot_write(database: Database) -> None:
    assert await pragma(database, "query_only", writing=False) == 1
    assert await pragma(database, "query_only", writing=True) == 0
    async with database.read() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.execute(database.tables.meta.insert().values(name="a", value="b"))


async def test_a_transaction_takes_the_write_lock_when_it_begins(database: Database) -> None:
    assert database.file is not None
    with closing(sqlite3.connect(database.file, timeout=0, isolation_level=None)) as other:
        async with database.begin():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


@EVERY_DRIVER
async def test_readers_see_a_snapshot_while_somebody_writes(database: Database) -> None:
    meta = database.tables.meta
    async with database.begin() as writing:
        await writing.execute(meta.insert().values(name="a", value="b"))
        async with database.read() as reading:
            assert (await reading.execute(select(meta.c.name).order_by(meta.c.name))).scalars().all() == FACTS


@EVERY_DRIVER
async def test_an_error_rolls_a_transaction_back(database: Database) -> None:
    meta = database.tables.meta
    with pytest.raises(KeyError):  # noqa: PT012 - the block is the transaction
        async with database.begin() as connection:
            await connection.execute(meta.insert().values(name="a", value="b"))
            raise KeyError
    async with database.read() as connection:
        assert (await connection.execute(select(meta.c.name).order_by(meta.c.name))).scalars().all() == FACTS


async def test_writers_of_one_process_take_turns(database: Database) -> None:
    meta = database.tables.meta

    async def count_up() -> None:
        async with database.begin() as connection:
            value = await connection.scalar(select(meta.c.value).where(meta.c.name == "count"))
            await asyncio.sleep(0)
            await connection.execute(meta.update().where(meta.c.name == "count").values(value=f"{int(value or 0) + 1}"))

    async with database.begin() as connection:
        await connection.execute(meta.insert().values(name="count", value="0"))
    await asyncio.gather(*(count_up() for _ in range(20)))

    async with database.read() as connection:
        assert await connection.scalar(select(meta.c.value).where(meta.c.name == "count")) == "20"


async def test_a_database_that_is_busy_is_a_passing_matter(database: Database) -> None:
    assert database.file is not None
    async with database.writer.connect() as connection:
        await connection.exec_driver_sql("PRAGMA busy_timeout=0")
        await connection.rollback()
    with closing(sqlite3.connect(database.file, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError) as busy:
            async with database.begin():
                raise AssertionError
        other.execute("ROLLBACK")

    assert is_transient(busy.value)
    async with database.begin() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OperationalError("", None, Exception("database is locked")), True),
        (OperationalError("", None, Exception("database table is locked: x")), True),
        (OperationalError("", None, Exception("gone"), connection_invalidated=True), True),
        (InterfaceError("", None, Exception("gone"), connection_invalidated=True), True),
        (OperationalError("", None, Exception("no such table: x")), False),
        (OperationalError("", None, Exception("database or disk is full")), False),
        (ConnectionResetError(), True),
        (IntegrityError("", None, Exception("UNIQUE constraint failed: x")), False),
        (ValueError("database is locked"), False),
    ],
)
def test_what_is_transient_is_known_by_class_and_message(error: Exception, transient: bool) -> None:
    error.__dict__[engines._SERVER] = Sqlite()  # as the engine of a Database marks it

    assert is_transient(error) is transient


def test_the_troubles_of_a_handlers_own_engine_are_the_handlers() -> None:
    assert not is_transient(OperationalError("", None, Exception("database is locked")))
    assert not is_transient(OperationalError("", None, Exception("gone"), connection_invalidated=True))
    assert not is_transient(ConnectionResetError())
    assert not is_transient(TimeoutError())


async def test_a_transaction_that_could_not_commit_does_not_spoil_the_connection(database: Database) -> None:
    async with database.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        await connection.exec_driver_sql(
            "CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO child VALUES (7)")

    async with database.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM child")) == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "sqlite:///shop.db",
        "sqlite+pysqlite:///shop.db",
        "postgresql://ada:secret@localhost/shop",
        "postgresql+psycopg2://ada:secret@localhost/shop",
        "mysql://ada:secret@localhost/shop",
        "mariadb+aiomysql://ada:secret@localhost/shop",
        "postgresql+asyncpg://ada:secret@localhost",
        "nonsense://ada:secret@localhost/shop",
    ],
)
def test_an_unsupported_url_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_url(url)
    assert refused.value.setting == "database"
    assert "secret" not in str(refused.value)


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'shop.db'}")
    with pytest.raises(DatabaseUnavailableError, match=r"there is no folder .*missing"):
        await database.open()
    await database.close()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("kind", ["folder", "text"])
async def test_a_file_that_is_no_database_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "shop.db"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text("no database" * 100)
    before = set(threading.enumerate())
    database = Database(f"sqlite+aiosqlite:///{path}")
    with pytest.raises(DatabaseUnavailableError, match="cannot be used"):
        await database.open()
    await database.close()

    # A connection's thread that outlives its loop fails in it.
    assert set(threading.enumerate()) <= before


async def test_a_database_in_memory_has_one_connection() -> None:
    database = Database("sqlite+aiosqlite://")
    await database.open()
    async with database.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE thing (id INTEGER)")
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM thing")) == 0
    await database.close()
    assert database.file is None


def test_a_driver_that_is_missing_is_named_with_what_to_install() -> None:
    program = """
import sys
sys.modules["aiosqlite"] = None
from mediator.errors import SettingsError
from mediator.storage.database import Database
try:
    Database("sqlite+aiosqlite:///shop.db")
except SettingsError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "mediator-toolkit[sqlite]" in ended.stdout
    assert "aiosqlite is not installed" in ended.stdout


@ON_SERVERS
async def test_units_of_work_relays_and_queries_have_connections_of_their_own(database: Database) -> None:
    # So many units of work that all connections for them are taken.
    taken = [await database.writer.connect() for _ in range(10)]
    async with database.begin() as own, database.read() as reading, database.reader.connect() as query:
        numbers = {await session_of(one) for one in (*taken, own, reading, query)}
    for connection in taken:
        await connection.close()

    assert len(numbers) == 13


@ON_SERVERS
async def test_queries_cannot_write(database: Database) -> None:
    async with database.reader.connect() as connection:
        with pytest.raises(DBAPIError, match=r"(?i)read.only"):
            await connection.execute(database.tables.meta.insert().values(name="a", value="b"))


@ON_POSTGRESQL
async def test_reads_of_the_toolkits_own_hold_no_transaction_open(database: Database, database_url: str) -> None:
    async with database.read() as reading:
        number = await session_of(reading)
        assert execute(database_url, "SELECT state FROM pg_stat_activity WHERE pid = ?", number) == [("idle",)]


@ON_MYSQL
async def test_reads_of_the_toolkits_own_need_no_transaction(database: Database) -> None:
    async with database.read() as reading:
        assert await reading.scalar(text("SELECT @@autocommit")) == 1


@ON_SERVERS
async def test_a_snapshot_stays_as_it_was(database: Database) -> None:
    meta = database.tables.meta
    async with database.snapshot() as snapshot:
        before = (await snapshot.execute(select(meta.c.name))).scalars().all()
        async with database.begin() as connection:
            await connection.execute(meta.insert().values(name="a", value="b"))
        assert (await snapshot.execute(select(meta.c.name))).scalars().all() == before
    async with database.begin() as connection:
        assert await isolation_of(connection) == "READ COMMITTED", "the next one is not a snapshot"


async def isolation_of(connection: Any) -> str:
    return str(await connection.get_isolation_level())


@ON_SERVERS
async def test_transactions_are_read_committed(database: Database) -> None:
    async with database.begin() as own, database.writer.connect() as work, database.reader.connect() as query:
        for connection in (own, work, query):
            assert await isolation_of(connection) == "READ COMMITTED"


@ON_SERVERS
async def test_a_dedicated_connection_is_apart_and_is_gone_afterwards(database: Database, database_url: str) -> None:
    async with database.dedicated() as connection:
        number = await session_of(connection)
        assert number in sessions(database_url)
        with pytest.raises(KeyError):
            await ended_by_an_error(database)

    await eventually(lambda: number not in sessions(database_url))


async def ended_by_an_error(database: Database) -> None:
    async with database.dedicated() as connection:
        await session_of(connection)
        raise KeyError


def sessions(url: str) -> set[int]:
    if "postgresql" in url:
        rows = execute(url, "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    else:
        rows = execute(url, "SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
    return {number for (number,) in rows}


@ON_SERVERS
async def test_the_server_knows_each_connection_by_a_number(database: Database) -> None:
    async with database.writer.connect() as connection:
        assert connection.info[engines.SESSION].number == await session_of(connection)


def is_in_use(database: Database, url: str) -> bool:
    """Whether somebody has a connection; on SQLite, the last one that closes takes the log along."""
    if database.file is not None:
        return Path(f"{database.file}-wal").exists()
    # The one that looks is among them.
    return len(sessions(url)) > 1


@EVERY_DRIVER
async def test_closing_leaves_no_connection_behind(database: Database, database_url: str) -> None:
    async with database.begin(), database.read(), database.reader.connect():
        pass
    assert is_in_use(database, database_url)
    await database.close()

    await eventually(lambda: not is_in_use(database, database_url))


@ON_MYSQL
async def test_a_statement_waits_ten_seconds_for_a_lock_at_most(database: Database) -> None:
    for engine in (database.writer, database._own_writer):
        async with engine.connect() as connection:
            shown: Executable = text("SELECT @@session.innodb_lock_wait_timeout")
            assert await connection.scalar(shown) == 10


@ON_SERVERS
async def test_a_server_that_accepts_and_never_answers_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.storage.database._OPEN_SECONDS", 0.2)

    callers: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(Database(database_url).url.set(port=port))
    before = time.monotonic()
    with pytest.raises(DatabaseUnavailableError, match="did not answer in time"):
        await database.open()
    # The drivers' own patience is ten seconds, where they have one.
    assert time.monotonic() - before < 9
    await database.close()
    server.close()
    assert callers
    for caller in callers:
        caller.close()
        with suppress(OSError):
            await caller.wait_closed()
