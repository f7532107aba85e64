"""Making the tables, bringing them up to date, and checking at start that they are there in the right version.

The row `schema_version` of the table `meta` says which version the tables have, and `UPGRADES` the way from each
version to the next. So the tables can be made and upgraded by the application (`schema="create"`), by a person with
`app.ddl()`, or by Alembic.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Executable,
    Inspector,
    Table,
    delete,
    false,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable

from mediator.errors import DatabaseUnavailableError, SchemaError
from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.engines import brief, is_connecting, is_transient, was_cut_off
from mediator.storage.outbox import SLOTS
from mediator.storage.partitions import complete_partitions, partition_ddl, verify_partitions
from mediator.storage.postgresql import lock_number
from mediator.storage.routes import ROUTES
from mediator.storage.tables import SCHEMA_VERSION, Tables

__all__ = ["UPGRADES", "completing_ddl", "create_schema", "ddl", "take_over", "upgrading_ddl", "verify_schema"]

_VERSION, _SLOTS, _APPLICATION = "schema_version", "slots", "application"
_FACTS = {_VERSION: SCHEMA_VERSION, _SLOTS: str(SLOTS), ROUTES: "0"}
_PATIENCE_SECONDS = 60
_GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE ON"
_UNUSABLE = text(
    "SELECT nspname FROM pg_namespace WHERE nspname = ANY(:names) AND NOT has_schema_privilege(oid, 'USAGE')"
)


def _to_2(tables: Tables) -> Sequence[str]:
    """Parked deliveries know their attempts, what is scheduled is found by its event id, and the number of slots is
    written down: a toolkit with another number must not work on these rows.
    """
    on_mysql, meta = tables.dialect in MYSQL, tables.meta.fullname
    long_text, scheduled = ("MEDIUMTEXT", "") if on_mysql else ("TEXT", " WHERE slot < 0")
    return (
        f"ALTER TABLE {tables.parked.fullname} ADD COLUMN history {long_text}",
        f"CREATE INDEX {tables.prefix}outbox_scheduled ON {tables.outbox.fullname} (event_id){scheduled}",
        f"INSERT INTO {meta} (name, value) VALUES ('{_SLOTS}', '{SLOTS}')",  # noqa: S608 - no input
        f"UPDATE {meta} SET value = '2' WHERE name = '{_VERSION}'",  # noqa: S608 - no input
    )


def _to_3(tables: Tables) -> Sequence[str]:
    """The database can carry the events itself. Whoever creates the schema has made the tables by then."""
    dialect = URL.create(tables.dialect).get_dialect()()
    made = (tables.deliveries, tables.lanes, tables.routes)
    meta = tables.meta.fullname
    return (
        *(statement for table in made for statement in _table_ddl(table, dialect, if_missing=True)),
        f"INSERT INTO {meta} (name, value) VALUES ('{ROUTES}', '0')",  # noqa: S608 - no input
        f"UPDATE {meta} SET value = '3' WHERE name = '{_VERSION}'",  # noqa: S608 - no input
    )


UPGRADES: Mapping[str, Callable[[Tables], Sequence[str]]] = {"1": _to_2, "2": _to_3}
"""For each version the statements that lead to the next one."""


async def create_schema(database: Database) -> None:
    """Create what is missing, and upgrade what is there."""
    tables = database.tables
    try:
        async with _alone(database), database.begin() as connection:
            if tables.schema is not None and not await connection.run_sync(_has_schema, tables.schema):
                await connection.execute(CreateSchema(tables.schema))
            await connection.run_sync(tables.metadata.create_all)
            await complete_partitions(connection, tables)
            version = await _fact(connection, tables, _VERSION)
            if version is None:
                await connection.execute(insert(tables.meta), [{"name": n, "value": v} for n, v in _FACTS.items()])
            while version is not None and version in UPGRADES:
                for statement in UPGRADES[version](tables):
                    await connection.exec_driver_sql(statement)
                version = await _fact(connection, tables, _VERSION)
    except DBAPIError as error:
        if database.dialect == "sqlite" or is_transient(error):
            raise _unavailable(database, error) from error
        await _verify_usage(database)
        fix = "Grant the user what the error names, or apply the statements of app.ddl() as another user"
        raise SchemaError(database.name, f"the tables cannot be made: {brief(error)}", fix) from error


async def verify_schema(database: Database) -> None:
    """Raise SchemaError naming the tables and columns that are missing, the version, or the rights that do not fit."""
    async with _reachable(database):
        await _verify(database)


async def _verify(database: Database) -> None:
    tables = database.tables
    try:
        async with database.snapshot() as connection:
            missing = await connection.run_sync(lambda sync: _missing(inspect(sync), database))
    except DBAPIError as error:
        if database.dialect == "sqlite" or is_transient(error):
            raise _unavailable(database, error) from error
        await _verify_usage(database)
        what = f"the tables cannot be looked at: {brief(error)}"
        raise SchemaError(database.name, what, f"{_GRANT} {tables.prefix}... TO the user of the application") from error
    if missing:
        await _verify_usage(database)
        if f"table {tables.meta.fullname}" not in missing:
            async with database.read() as connection:
                version = await _fact(connection, tables, _VERSION)
            if version is not None and version in UPGRADES:
                raise _other_version(database, version)
        fix = 'Start once with MediatorApp(schema="create"), or apply the statements of app.ddl()'
        raise SchemaError(database.name, f"missing: {', '.join(missing)}", fix)
    if database.dialect != "sqlite":
        await _verify_rights(database)
    async with database.snapshot() as connection:
        version, slots = [await _fact(connection, tables, name) for name in (_VERSION, _SLOTS)]
        await verify_partitions(connection, database)
    if version is None:
        what = f"{tables.meta.fullname} does not say of which version the tables are"
        raise SchemaError(database.name, what, 'Start once with MediatorApp(schema="create")')
    if version != SCHEMA_VERSION:
        raise _other_version(database, version)
    if slots != str(SLOTS):
        what = f"the outbox has {slots} slots, this toolkit has {SLOTS}"
        raise SchemaError(database.name, what, "Install the version of the toolkit that made the tables")


def _other_version(database: Database, version: str) -> SchemaError:
    what = f"the tables are of version {version!r}, this toolkit needs {SCHEMA_VERSION!r}"
    upgrade = f'Start once with MediatorApp(schema="create"), or apply app.ddl(since="{version}")'
    other = "Install the version of the toolkit that made them"
    return SchemaError(database.name, what, upgrade if version in UPGRADES else other)


async def take_over(database: Database, application: str) -> None:
    """Write down whose tables these are, unless it is known; raises SchemaError when they are another application's.

    Its relay would confirm and remove what nobody but this one listens to.
    """
    tables = database.tables
    async with _reachable(database):
        async with database.read() as connection:
            owner = await _fact(connection, tables, _APPLICATION)
        if owner is None:
            async with _alone(database), database.begin() as connection:
                owner = await _fact(connection, tables, _APPLICATION)
                if owner is None:
                    await connection.execute(insert(tables.meta), [{"name": _APPLICATION, "value": application}])
    if owner not in {None, application}:
        what = f"the tables {tables.prefix}... belong to the application {owner!r}, this one is {application!r}"
        fix = f"Give it a table_prefix or schema of its own; if it was renamed, change the row {_APPLICATION!r} in "
        raise SchemaError(database.name, what, fix + tables.meta.fullname)


def ddl(database: Database, since: str | None = None) -> str:
    """The statements of `create_schema` as SQL text: for an empty database, or for tables of the version `since`."""
    tables, dialect = database.tables, database.writer.dialect
    statements: list[str] = []
    if since is not None:
        if since != SCHEMA_VERSION and since not in UPGRADES:
            raise SchemaError(database.name, f"there are no tables of version {since!r}", "Look into the table meta")
        return "".join(f"{statement};\n\n" for statement in upgrading_ddl(tables, since))
    if tables.schema is not None:
        statements.append(str(CreateSchema(tables.schema, if_not_exists=True).compile(dialect=dialect)))
    for table in tables.metadata.sorted_tables:
        statements.extend(_table_ddl(table, dialect))
    statements.extend(completing_ddl(tables))
    return ";\n\n".join(statements) + ";\n"


def _table_ddl(table: Table, dialect: Dialect, *, if_missing: bool = False) -> Iterator[str]:
    yield str(CreateTable(table, if_not_exists=if_missing).compile(dialect=dialect)).strip()
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield str(CreateIndex(index, if_not_exists=if_missing).compile(dialect=dialect)).strip()


def upgrading_ddl(tables: Tables, since: str) -> Sequence[str]:
    """What leads from tables of the version `since` to those of this version."""
    statements: list[str] = []
    while since in UPGRADES:
        statements.extend(UPGRADES[since](tables))
        since = str(int(since) + 1)
    return statements


def completing_ddl(tables: Tables) -> Sequence[str]:
    """What has to follow when the tables have been made: the first partitions, and the facts about these tables."""
    meta = tables.meta.fullname
    facts = [f"INSERT INTO {meta} (name, value) VALUES ('{name}', '{value}')" for name, value in _FACTS.items()]  # noqa: S608
    return (*partition_ddl(tables), *facts)


@asynccontextmanager
async def _reachable(database: Database) -> AsyncIterator[None]:
    """Raises DatabaseUnavailableError when the database goes away meanwhile."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise _unavailable(database, error) from error
        raise


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """Processes that start at the same moment make the tables one after the other, each until it has committed."""
    if database.dialect == "sqlite":
        # There each transaction is alone.
        yield
        return
    number = lock_number("schema", str(database.url.database), database.tables.schema or "")
    async with database.dedicated() as guard:
        # Its locks end with the connection.
        if database.dialect in MYSQL:
            name = f"mediator:{number % 2**64:016x}"
            patience = {"name": name, "wait": _PATIENCE_SECONDS}
            if not await guard.scalar(text("SELECT GET_LOCK(:name, :wait)"), patience):
                what = f"another process has been making the tables for {_PATIENCE_SECONDS} s"
                raise SchemaError(database.name, what, "See what it waits for, and start again")
        else:
            await guard.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
        yield


def _has_schema(connection: Connection, schema: str) -> bool:
    return schema in inspect(connection).get_schema_names()


async def _fact(connection: AsyncConnection, tables: Tables, name: str) -> str | None:
    return await connection.scalar(select(tables.meta.c.value).where(tables.meta.c.name == name))


async def _verify_usage(database: Database) -> None:
    """PostgreSQL does not show a user the tables in a schema that he may not use: they seem to be missing."""
    if database.dialect != "postgresql":
        return
    async with database.read() as connection:
        path = [database.tables.schema] if database.tables.schema else await _search_path(connection)
        refused = list(await connection.scalars(_UNUSABLE, {"names": path}))
    if refused:
        names = ", ".join(refused)
        fix = f"GRANT USAGE ON SCHEMA {names} TO the user of the application"
        raise SchemaError(database.name, f"the user may not use the schema {names}", fix)


async def _search_path(connection: AsyncConnection) -> list[str]:
    path, user = (await connection.execute(text("SELECT current_setting('search_path'), current_user"))).one()
    return [user if (name := part.strip(' "')) == "$user" else name for part in path.split(",")]


async def _verify_rights(database: Database) -> None:
    """Statements that touch no row, but are refused when the rights are missing."""
    async with database.begin() as connection:
        for table in database.tables.metadata.sorted_tables:
            for right, statement in _harmless(table).items():
                try:
                    await connection.execute(statement)
                except DBAPIError as error:
                    if is_transient(error):
                        raise
                    what = f"the user may not {right} rows of {table.fullname}: {brief(error)}"
                    fix = f"{_GRANT} {table.fullname} TO the user of the application"
                    raise SchemaError(database.name, what, fix) from error


def _unavailable(database: Database, error: Exception) -> DatabaseUnavailableError:
    is_away = database.dialect == "sqlite" or is_connecting(error) or was_cut_off(error)
    fix = database.advice(error) if is_away else "Start again; if that does not help, look for what locks the tables"
    return DatabaseUnavailableError(database.name, brief(error) or type(error).__name__, fix)


def _harmless(table: Table) -> Mapping[str, Executable]:
    names = [column.name for column in table.c]
    nothing = select(table).where(false())
    return {
        "select": select(table).where(false()),
        "delete": delete(table).where(false()),
        "update": update(table).where(false()).values({names[0]: table.c[names[0]]}),
        "insert": insert(table).from_select(names, nothing, include_defaults=False),
    }


def _missing(inspector: Inspector, database: Database) -> list[str]:
    missing: list[str] = []
    for table in database.tables.metadata.sorted_tables:
        if not inspector.has_table(table.name, schema=table.schema):
            missing.append(f"table {table.fullname}")
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        missing.extend(f"column {table.fullname}.{column.name}" for column in table.columns if column.name not in there)
    return missing
