"""Where the shop is played: in a SQLite file of a temporary folder, or in the database that the reader names.

A database that is named is kept, and may be one of a former run: what a scenario needs it makes anew, and no table is
ever dropped. But one that holds tables with the shop's names which the sample did not make is refused. They are
somebody else's, and the sample would write to them.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import make_url
from sqlmodel import SQLModel

from mediator.errors import SettingsError
from mediator.storage.database import Database, checked_url
from sample_app.wiring import PREFIX

__all__ = ["kind_of", "named", "refuse_strangers", "temporary"]

_SERVERS = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}


def temporary(stack: ExitStack, *, keep: bool) -> str:
    """The URL of a new SQLite file, which `stack` removes unless it is to be kept."""
    if keep:
        folder = tempfile.mkdtemp(prefix="shop-")
    else:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-"))
    return f"sqlite+aiosqlite:///{Path(folder) / 'shop.db'}"


def named(database: str) -> str:
    """The URL that a reader gave, so that the killed processes find the same place; raises SettingsError."""
    url = checked_url(database)
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise SettingsError("database", database, "the crash scenarios need a file, which survives a process")
        url = url.set(database=str(Path(str(url.database)).absolute()))
    return url.render_as_string(hide_password=False)


def kind_of(database: str) -> str:
    """What a database is, for people."""
    name = _SERVERS.get(make_url(database).get_backend_name())
    return "SQLite file" if name is None else f"{name} database"


async def refuse_strangers(database: str) -> None:
    """Raise SettingsError when tables of the shop are there and the sample did not make them."""
    place = Database(database)
    try:
        await place.open()
        async with place.read() as connection:
            found = await connection.run_sync(_tables)
    finally:
        await place.close()
    strangers = sorted(found & set(SQLModel.metadata.tables))
    if strangers and f"{PREFIX}meta" not in found:
        fix = f"it holds tables that the sample did not make ({', '.join(strangers)}): name another database"
        raise SettingsError("database", place.name, fix)


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())
