"""SQLite keeps its promises with WAL, synchronous=FULL and BEGIN IMMEDIATE; all of it is read back here."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError

from mediator.errors import DatabaseUnavailableError, SettingsError
from mediator.storage.database import Database, checked_url, is_transient


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


async def test_readers_see_a_snapshot_while_somebody_writes(database: Database) -> None:
    meta = database.tables.meta
    async with database.begin() as writing:
        await writing.execute(meta.insert().values(name="a", value="b"))
        async with database.read() as reading:
            assert (await reading.execute(select(meta.c.name))).scalars().all() == ["schema_version"]


async def test_an_error_rolls_a_transaction_back(database: Database) -> None:
    meta = database.tables.meta
    with pytest.raises(KeyError):  # noqa: PT012 - the block is the transaction
        async with database.begin() as connection:
            await connection.execute(meta.insert().values(name="a", value="b"))
            raise KeyError
    async with database.read() as connection:
        assert (await connection.execute(select(meta.c.name))).scalars().all() == ["schema_version"]


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
        (IntegrityError("", None, Exception("database is locked")), False),
        (ValueError("database is locked"), False),
        (TimeoutError(), False),
    ],
)
def test_what_is_transient_is_known_by_class_and_message(error: Exception, transient: bool) -> None:
    error.mediator_engine = True  # type: ignore[attr-defined]  # as the engine of a Database marks it

    assert is_transient(error) is transient


def test_the_troubles_of_a_handlers_own_engine_are_the_handlers() -> None:
    assert not is_transient(OperationalError("", None, Exception("database is locked")))


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
        "postgresql+asyncpg://ada:secret@localhost/shop",
        "mysql://ada:secret@localhost/shop",
        "nonsense://ada:secret@localhost/shop",
    ],
)
def test_an_unsupported_url_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite\+aiosqlite") as refused:
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
    with pytest.raises(DatabaseUnavailableError, match="cannot be opened"):
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
