"""The tables: made on request, the same by DDL, checked at start."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mediator.errors import SchemaError, SettingsError
from mediator.storage.database import Database
from mediator.storage.schema import create_schema, ddl, verify_schema
from mediator.storage.tables import SCHEMA_VERSION, Tables
from tests.storage.rows import execute

NAMES = ["audit", "inbox", "meta", "outbox", "parked", "sent"]


def definitions(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return {name: " ".join(sql.split()) for name, sql in rows}


async def created(path: Path, tables: Tables | None = None) -> dict[str, str]:
    database = Database(f"sqlite+aiosqlite:///{path}", tables)
    await create_schema(database)
    await database.close()
    return definitions(path)


@pytest.mark.parametrize("prefix", ["mediator_", "", "shop_"])
async def test_the_ddl_makes_what_create_makes(tmp_path: Path, prefix: str) -> None:
    by_create = await created(tmp_path / "created.db", Tables(prefix))
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'ddl.db'}", Tables(prefix))
    with closing(sqlite3.connect(tmp_path / "ddl.db")) as connection:
        connection.executescript(ddl(database))

    assert definitions(tmp_path / "ddl.db") == by_create
    assert {f"{prefix}{name}" for name in NAMES} <= set(by_create)
    await verify_schema(database)
    await database.close()


async def test_creating_again_changes_nothing(database: Database, database_url: str) -> None:
    execute(database_url, "INSERT INTO mediator_meta VALUES ('mine', 'kept')")

    await create_schema(database)

    assert database.file is not None
    with closing(sqlite3.connect(database.file)) as connection:
        assert connection.execute("SELECT name, value FROM mediator_meta ORDER BY name").fetchall() == [
            ("mine", "kept"),
            ("schema_version", SCHEMA_VERSION),
        ]


async def test_what_is_there_passes(database: Database) -> None:
    await verify_schema(database)


async def test_missing_tables_and_columns_are_named_together(database: Database, database_url: str) -> None:
    execute(database_url, "DROP TABLE mediator_inbox")
    execute(database_url, "ALTER TABLE mediator_sent DROP COLUMN cause")

    with pytest.raises(SchemaError) as refused:
        await verify_schema(database)

    assert "table mediator_inbox" in str(refused.value)
    assert "column mediator_sent.cause" in str(refused.value)
    assert 'schema="create"' in refused.value.fix


async def test_an_empty_database_lacks_everything(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(SchemaError, match="missing: table mediator_"):
        await verify_schema(database)
    await database.close()


@pytest.mark.parametrize("version", ["0", "2", None])
async def test_another_version_is_refused(database: Database, database_url: str, version: str | None) -> None:
    if version is None:
        execute(database_url, "DELETE FROM mediator_meta")
    else:
        execute(database_url, "UPDATE mediator_meta SET value = ?", version)

    with pytest.raises(SchemaError, match=f"version {version!r}, this toolkit needs '{SCHEMA_VERSION}'"):
        await verify_schema(database)


async def test_two_prefixes_live_in_one_database(database: Database) -> None:
    assert database.file is not None
    found = await created(database.file, Tables("other_"))

    assert {"mediator_outbox", "other_outbox"} <= set(found)
    assert not any("mediator_" in sql for name, sql in found.items() if name.startswith("other_"))


@pytest.mark.parametrize("wrong", ["Mediator_", "a-b", "1a", "a b", "a;drop table x", "x" * 42, 'a"b'])
def test_a_prefix_that_is_no_plain_name_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="table_prefix"):
        Tables(wrong)
    with pytest.raises(SettingsError, match="schema_name"):
        Tables(schema=wrong)


def test_a_schema_is_in_front_of_every_table() -> None:
    assert {table.schema for table in Tables(schema="bus").metadata.tables.values()} == {"bus"}


async def test_numbers_are_never_used_again(database: Database, database_url: str) -> None:
    insert = "INSERT INTO mediator_audit (at, actor, action, subject) VALUES (1, 'somebody', 'something', 'somewhere')"
    execute(database_url, insert)
    execute(database_url, "DELETE FROM mediator_audit")
    execute(database_url, insert)

    assert database.file is not None
    with closing(sqlite3.connect(database.file)) as connection:
        assert connection.execute("SELECT id FROM mediator_audit").fetchall() == [(2,)]
        for table in ("outbox", "parked"):
            (sql,) = connection.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (f"mediator_{table}",)
            ).fetchone()
            assert "AUTOINCREMENT" in sql
