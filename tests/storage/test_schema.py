"""The tables: made on request, the same by DDL, upgraded from former versions, checked at start."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Inspector, delete, insert, inspect, select

from mediator.errors import SchemaError, SettingsError
from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, OutboxTable, insert_statement
from mediator.storage.schema import create_schema, ddl, verify_schema
from mediator.storage.tables import SCHEMA_VERSION, Tables
from tests.storage.drivers import EVERY_DRIVER, ON_POSTGRESQL, ON_SQLITE
from tests.storage.rows import execute, outbox_row

pytestmark = EVERY_DRIVER

NAMES = {"audit", "deliveries", "inbox", "lanes", "meta", "outbox", "parked", "routes", "sent"}
FACTS = {"schema_version": SCHEMA_VERSION, "slots": str(SLOTS), "routes": "0"}


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Database]:
    database = Database(url, **options)
    try:
        yield database
    finally:
        await database.close()


async def apply(database: Database, statements: str) -> None:
    """Run statements as a person would."""
    async with database.begin() as connection:
        for statement in re.split(r";\s*\n", statements):
            if statement.strip():
                await connection.exec_driver_sql(statement)


async def described(database: Database) -> dict[str, Any]:
    """Everything that the database knows of the toolkit's tables."""

    def look(connection: Connection) -> dict[str, Any]:
        inspector = inspect(connection)
        return {name: _table(inspector, name, database.tables.schema) for name in database.tables.metadata.tables}

    async with database.begin() as connection:
        return await connection.run_sync(look)


def _table(inspector: Inspector, full_name: str, schema: str | None) -> Any:
    name = full_name.rpartition(".")[2]
    columns = [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name, schema=schema)]
    keys = inspector.get_pk_constraint(name, schema=schema), inspector.get_unique_constraints(name, schema=schema)
    indexes = {
        # Conditions of partial indexes are expressions, which are not equal to themselves.
        index["name"]: index | {"dialect_options": {k: str(v) for k, v in index.get("dialect_options", {}).items()}}
        for index in inspector.get_indexes(name, schema=schema)
    }
    return columns, keys, indexes, inspector.get_table_options(name, schema=schema)


async def facts(database: Database) -> dict[str, str]:
    meta = database.tables.meta.c
    async with database.begin() as connection:
        return {name: value for name, value in await connection.execute(select(meta.name, meta.value))}  # noqa: C416


async def set_fact(database: Database, name: str, value: str | None) -> None:
    meta = database.tables.meta
    async with database.begin() as connection:
        await connection.execute(delete(meta).where(meta.c.name == name))
        if value is not None:
            await connection.execute(insert(meta).values(name=name, value=value))


@pytest.mark.parametrize("prefix", ["mediator_", "", "shop_"])
async def test_the_ddl_makes_what_create_makes(database_url: str, prefix: str) -> None:
    async with opened(database_url, prefix=prefix) as database:
        await create_schema(database)
        by_create = await described(database)
        async with database.begin() as connection:
            await connection.run_sync(database.tables.metadata.drop_all)
        await apply(database, ddl(database))

        assert await described(database) == by_create
        assert {f"{prefix}{name}" for name in NAMES} <= set(by_create)
        assert await facts(database) == FACTS
        await verify_schema(database)


@ON_POSTGRESQL
async def test_the_ddl_makes_the_schema_as_well(database_url: str) -> None:
    async with opened(database_url, schema="bus") as database:
        await apply(database, ddl(database))

        assert {f"bus.mediator_{name}" for name in NAMES} <= set(await described(database))
        await verify_schema(database)
        await create_schema(database)


async def test_creating_again_changes_nothing(database: Database) -> None:
    await set_fact(database, "mine", "kept")
    before = await described(database)

    await create_schema(database)

    assert await described(database) == before
    assert await facts(database) == {**FACTS, "mine": "kept"}


async def test_many_that_create_at_the_same_moment_create_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(5)]

    await asyncio.gather(*(create_schema(database) for database in databases))

    assert await facts(databases[0]) == FACTS
    for database in databases:
        await verify_schema(database)
        await database.close()


async def test_missing_tables_and_columns_are_named_together(database: Database, database_url: str) -> None:
    execute(database_url, "DROP TABLE mediator_inbox")
    execute(database_url, "ALTER TABLE mediator_sent DROP COLUMN cause")

    with pytest.raises(SchemaError) as refused:
        await verify_schema(database)

    assert "missing: table mediator_inbox, column mediator_sent.cause" in str(refused.value)
    assert 'schema="create"' in refused.value.fix


async def test_an_empty_database_lacks_everything(database_url: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(SchemaError) as refused:
            await verify_schema(database)

    assert all(f"table mediator_{name}" in str(refused.value) for name in NAMES)


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        ("0", "Install the version"),
        ("99", "Install the version"),
        ("1", 'app.ddl(since="1")'),
        ("2", 'app.ddl(since="2")'),
    ],
)
async def test_another_version_is_refused(database: Database, version: str, fix: str) -> None:
    await set_fact(database, "schema_version", version)

    with pytest.raises(SchemaError, match=f"version {version!r}, this toolkit needs {SCHEMA_VERSION!r}") as refused:
        await verify_schema(database)
    assert fix in refused.value.fix


async def test_tables_that_do_not_say_their_version_are_refused(database: Database) -> None:
    await set_fact(database, "schema_version", None)

    with pytest.raises(SchemaError, match="mediator_meta does not say"):
        await verify_schema(database)


@pytest.mark.parametrize("slots", ["32", None])
async def test_another_number_of_slots_is_refused(database: Database, slots: str | None) -> None:
    await set_fact(database, "slots", slots)

    with pytest.raises(SchemaError, match=f"has {slots} slots, this toolkit has {SLOTS}"):
        await verify_schema(database)


async def tables_of(version: str, database: Database) -> dict[str, Any]:
    """Tables of a former version with a row; SQLite's are those that it made."""
    if database.dialect == "sqlite":
        await apply(database, Path(__file__).with_name(f"version_{version}.sql").read_text())
    else:
        await create_schema(database)
        await set_fact(database, "schema_version", version)
        await set_fact(database, "routes", None)
        for table in ("deliveries", "lanes", "routes"):
            await apply(database, f"DROP TABLE mediator_{table}")
        if version == "1":
            await set_fact(database, "slots", None)
            of_table = " ON mediator_outbox" if database.dialect in MYSQL else ""
            await apply(database, f"DROP INDEX mediator_outbox_scheduled{of_table}")
            await apply(database, "ALTER TABLE mediator_parked DROP COLUMN history")
    row = outbox_row()
    async with database.begin() as connection:
        await connection.execute(insert_statement(database.tables), [row])
    return row


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("way", ["create", "ddl"])
async def test_tables_of_former_versions_are_upgraded_and_keep_their_rows(
    database_url: str, way: str, version: str
) -> None:
    async with opened(database_url) as database:
        row = await tables_of(version, database)
        with pytest.raises(SchemaError):
            await verify_schema(database)

        await (create_schema(database) if way == "create" else apply(database, ddl(database, since=version)))

        assert await facts(database) == FACTS
        await verify_schema(database)
        found = await described(database)
        _, _, indexes, _ = found["mediator_outbox"]
        assert {index.name for index in database.tables.outbox.indexes} <= set(indexes)
        async with opened(database_url, prefix="other_") as other:
            await create_schema(other)
            anew = await described(other)
        for table in ("deliveries", "lanes", "routes"):
            made, intended = (
                repr(one).replace("other_", "mediator_") for one in (found[f"mediator_{table}"], anew[f"other_{table}"])
            )
            assert made == intended
        outbox = OutboxTable(database)
        (kept,) = await outbox.fetch(0, 10, without=(), without_keys=())
        assert kept["event_id"] == row["event_id"]
        await outbox.complete([(0, 1)], keep_history=True)


async def test_tables_of_a_newer_version_are_left_alone(database: Database) -> None:
    await set_fact(database, "schema_version", "99")

    await create_schema(database)

    assert (await facts(database))["schema_version"] == "99"


def test_there_is_nothing_to_do_since_this_version_and_no_way_from_others() -> None:
    database = Database("sqlite+aiosqlite://")

    assert ddl(database, since=SCHEMA_VERSION) == ""
    with pytest.raises(SchemaError, match="no tables of version '77'"):
        ddl(database, since="77")


async def test_two_prefixes_live_in_one_database(database: Database, database_url: str) -> None:
    async with opened(database_url, prefix="other_") as other:
        await create_schema(other)
        await set_fact(other, "mine", "kept")
        await verify_schema(other)

    assert await facts(database) == FACTS


@ON_POSTGRESQL
async def test_two_schemas_live_in_one_database(database_url: str) -> None:
    async with opened(database_url, schema="one") as one, opened(database_url, schema="other") as other:
        for database in (one, other):
            await create_schema(database)
            await verify_schema(database)
        await set_fact(other, "mine", "kept")

        assert await facts(one) == FACTS


@pytest.mark.parametrize("wrong", ["Mediator_", "a-b", "1a", "a b", "a;drop table x", "x" * 42, 'a"b'])
def test_a_prefix_that_is_no_plain_name_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="table_prefix"):
        Tables(wrong)
    with pytest.raises(SettingsError, match="schema_name"):
        Tables(schema=wrong, dialect="postgresql")


def test_sqlite_has_no_schemas() -> None:
    with pytest.raises(SettingsError, match="use a table prefix"):
        Tables(schema="bus")


def test_a_schema_is_in_front_of_every_table() -> None:
    assert {table.schema for table in Tables(schema="bus", dialect="postgresql").metadata.tables.values()} == {"bus"}


@pytest.mark.parametrize("longest", ["x" * 41])
async def test_the_longest_prefix_does(database_url: str, longest: str) -> None:
    async with opened(database_url, prefix=longest) as database:
        await create_schema(database)
        await verify_schema(database)


async def test_numbers_are_never_used_again(database: Database) -> None:
    outbox, found = database.tables.outbox, []
    async with database.begin() as connection:
        for _ in range(3):
            await connection.execute(insert_statement(database.tables), [outbox_row()])
            found.append(await connection.scalar(select(outbox.c.position)))
            await connection.execute(delete(outbox))

    assert found == [1, 2, 3]


@ON_SQLITE
async def test_on_sqlite_numbers_are_counted_up_by_the_table(database: Database, database_url: str) -> None:
    for table in ("audit", "outbox", "parked"):
        ((sql,),) = execute(database_url, "SELECT sql FROM sqlite_master WHERE name = ?", f"mediator_{table}")
        assert "AUTOINCREMENT" in sql
