"""Making the tables, and checking at start that they are there in the right version."""

from sqlalchemy import Inspector, insert, inspect, literal, select
from sqlalchemy.schema import CreateIndex, CreateTable

from mediator.errors import SchemaError
from mediator.storage.database import Database
from mediator.storage.tables import SCHEMA_VERSION

__all__ = ["create_schema", "ddl", "verify_schema"]


async def create_schema(database: Database) -> None:
    """Create what is missing; what is there stays as it is."""
    tables = database.tables
    async with database.begin() as connection:
        await connection.run_sync(tables.metadata.create_all)
        if await connection.scalar(select(tables.meta.c.value).where(tables.meta.c.name == "schema_version")) is None:
            await connection.execute(insert(tables.meta), [{"name": "schema_version", "value": SCHEMA_VERSION}])


async def verify_schema(database: Database) -> None:
    """Raise SchemaError naming the tables and columns that are missing, or the version that does not fit."""
    tables = database.tables
    async with database.read() as connection:
        missing = await connection.run_sync(lambda sync: _missing(inspect(sync), database))
        if missing:
            raise SchemaError(
                database.name,
                f"missing: {', '.join(missing)}",
                'Start once with MediatorApp(schema="create"), or apply the statements of app.ddl()',
            )
        version = await connection.scalar(select(tables.meta.c.value).where(tables.meta.c.name == "schema_version"))
    if version != SCHEMA_VERSION:
        raise SchemaError(
            database.name,
            f"the tables are of version {version!r}, this toolkit needs {SCHEMA_VERSION!r}",
            "Install the version of the toolkit that made them, or migrate the tables",
        )


def ddl(database: Database) -> str:
    """The statements that `create_schema` would run on an empty database, as SQL text."""
    dialect = database.writer.dialect
    statements: list[str] = []
    for table in database.tables.metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes)
    meta = database.tables.meta
    version = insert(meta).values(name=literal("schema_version"), value=literal(SCHEMA_VERSION))
    statements.append(str(version.compile(dialect=dialect, compile_kwargs={"literal_binds": True})))
    return ";\n\n".join(statements) + ";\n"


def _missing(inspector: Inspector, database: Database) -> list[str]:
    missing: list[str] = []
    for table in database.tables.metadata.sorted_tables:
        if not inspector.has_table(table.name, schema=table.schema):
            missing.append(f"table {table.fullname}")
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        missing.extend(f"column {table.fullname}.{column.name}" for column in table.columns if column.name not in there)
    return missing
