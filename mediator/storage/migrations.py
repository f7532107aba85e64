"""The toolkit's tables by Alembic: what `env.py` needs so that they are migrated together with the application's.

    toolkit = ToolkitMigrations(url)
    context.configure(connection=connection, **toolkit.options(Base.metadata))

`alembic revision --autogenerate` then writes what the toolkit's tables lack into the next revision, in types of
SQLAlchemy's own, so that a revision never imports the toolkit:

    tables that are not there      CREATE TABLE, and after it what SQLAlchemy knows nothing of: the first partitions of
                                   the inbox, and the rows of the table `meta`
    tables of a former version     the statements of `UPGRADES`, the same that `app.ddl(since=...)` prints

What else is there is not the toolkit's to judge: an index that somebody added to its tables, or a partition, is never
proposed to be dropped. `include_object` alone keeps Alembic away from tables that are made in another way.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import MetaData, Table, TypeDecorator, select
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.default import DefaultDialect

from mediator.errors import SchemaError
from mediator.storage.columns import MYSQL
from mediator.storage.schema import UPGRADES, completing_ddl, upgrading_ddl
from mediator.storage.tables import SCHEMA_VERSION, Tables

__all__ = ["ToolkitMigrations"]

_Hook: TypeAlias = Callable[..., Any]
_LOOKS_BOUND = re.compile(r"(?<![:\w\\]):(?=\w)")


class ToolkitMigrations:
    """The toolkit's tables in one database, as Alembic sees them."""

    def __init__(
        self,
        database: str | URL,
        *,
        prefix: str = "mediator_",
        schemas: Sequence[str | None] = (None,),
        partitioned_inbox: bool = False,
    ) -> None:
        """`database` is a URL, with any driver; the rest repeats the application's settings."""
        url = make_url(database)
        self._database, self._dialect = url.render_as_string(hide_password=True), url.get_backend_name()
        self._all = [Tables(prefix, one, self._dialect, partitioned_inbox=partitioned_inbox) for one in schemas]
        for tables in self._all:
            _make_plain(tables)
        self._schemas = {None, *schemas}
        names = "|".join(Tables(prefix, None, "mysql").metadata.tables)
        self._name = re.compile(rf"{names}|{prefix}inbox_(default|foreign|before|\d+)")

    def options(
        self,
        target_metadata: MetaData | Sequence[MetaData],
        *,
        include_schemas: bool = False,
        include_object: _Hook | None = None,
        include_name: _Hook | None = None,
        process_revision_directives: _Hook | None = None,
    ) -> dict[str, Any]:
        """What `context.configure` is given. These options of the application's go in here: they keep their meaning for
        what is its own.
        """
        compared = False

        def included(item: Any, name: str | None, kind: str, reflected: bool, twin: Any) -> bool:  # noqa: FBT001
            # Only Alembic's comparison asks: a revision that a person is going to fill stays empty.
            nonlocal compared
            compared = True
            if self._owns(item):
                return self.include_object(item, name, kind, reflected, twin)
            return include_object is None or bool(include_object(item, name, kind, reflected, twin))

        def named(name: str | None, kind: str, parents: dict[str, Any]) -> bool:
            schema, table = (name, None) if kind == "schema" else (parents["schema_name"], parents.get("table_name"))
            if schema in self._schemas and (kind == "schema" or self._name.fullmatch(table or name or "")):
                return True
            # Schemas that only the toolkit asked for are none of the application's.
            if schema is not None and not include_schemas:
                return False
            return include_name is None or bool(include_name(name, kind, parents))

        def completed(context: Any, revision: Any, directives: list[Any]) -> None:
            if compared and directives:
                self._complete(context.connection, directives[0])
            if process_revision_directives is not None:
                process_revision_directives(context, revision, directives)

        own = [target_metadata] if isinstance(target_metadata, MetaData) else target_metadata
        return {
            "target_metadata": [*own, *(tables.metadata for tables in self._all)],
            "include_schemas": include_schemas or self._schemas != {None},
            "include_object": included,
            "include_name": named,
            "process_revision_directives": completed,
        }

    def include_object(
        self,
        item: Any,
        name: str | None,  # noqa: ARG002
        kind: str,  # noqa: ARG002
        reflected: bool,  # noqa: FBT001
        twin: Any,
    ) -> bool:
        """Leaves out what the database has of the toolkit's and `target_metadata` lacks: Alembic would drop it."""
        return not (reflected and twin is None and self._owns(item))

    def _owns(self, item: Any) -> bool:
        table = item if isinstance(item, Table) else getattr(item, "table", None)
        return table is not None and table.schema in self._schemas and bool(self._name.fullmatch(table.name))

    def _complete(self, connection: Connection, script: Any) -> None:
        """Add to a revision what comparing tables does not find."""
        from alembic.operations.ops import CreateTableOp, DropTableOp, ExecuteSQLOp, ModifyTableOps

        upgrade, downgrade = script.upgrade_ops_list[-1], script.downgrade_ops_list[-1]
        made = {(one.schema, one.table_name) for one in upgrade.ops if isinstance(one, CreateTableOp)}
        for tables in self._all:
            ours = {(table.schema, table.name) for table in tables.metadata.tables.values()}
            if (tables.meta.schema, tables.meta.name) in made:
                statements = completing_ddl(tables)
                if tables.schema is not None:
                    upgrade.ops.insert(0, ExecuteSQLOp(f"CREATE SCHEMA IF NOT EXISTS {tables.schema}"))
            else:
                statements = self._upgrade(connection, tables)
                made -= {one for one in made & ours if _makes(statements, *one)}
                for operations in (upgrade, downgrade) if statements else ():
                    # The statements say in their own way what the comparison found.
                    operations.ops[:] = [
                        one
                        for one in operations.ops
                        if not isinstance(one, (ModifyTableOps, CreateTableOp, DropTableOp))
                        or (one.schema, one.table_name) not in ours - made
                    ]
            # Alembic would take a colon before a word for a parameter.
            upgrade.ops.extend(ExecuteSQLOp(_LOOKS_BOUND.sub(r"\\:", one)) for one in statements)

    def _upgrade(self, connection: Connection, tables: Tables) -> Sequence[str]:
        """What leads from the version in the database to this one."""
        meta = tables.meta.c
        version = connection.scalar(select(meta.value).where(meta.name == "schema_version"))
        if version is None:
            return completing_ddl(tables)
        if version != SCHEMA_VERSION and version not in UPGRADES:
            what = f"the tables are of version {version!r}, this toolkit needs {SCHEMA_VERSION!r}"
            raise SchemaError(self._database, what, "Install the version of the toolkit that made them")
        return upgrading_ddl(tables, version)


def _makes(statements: Sequence[str], schema: str | None, table: str) -> bool:
    name = table if schema is None else f"{schema}.{table}"
    return any(statement.startswith(f"CREATE TABLE IF NOT EXISTS {name} (") for statement in statements)


def _make_plain(tables: Tables) -> None:
    """Types, and options, as they are on this dialect, without those of others."""
    family = MYSQL if tables.dialect in MYSQL else (tables.dialect,)
    dialect = DefaultDialect()
    dialect.name = tables.dialect
    for table in tables.metadata.tables.values():
        for column in table.columns:
            kind = column.type.dialect_impl(dialect)
            column.type = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
            if column.identity is not None and tables.dialect != "postgresql":
                column.identity = column.server_default = None
        for options in (table.kwargs, *(index.kwargs for index in table.indexes)):
            for option in [name for name in options if name.partition("_")[0] not in family]:
                del options[option]
