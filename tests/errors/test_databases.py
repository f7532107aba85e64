"""Every way in which a database can be of no use, or of less use than promised: told at the start, with what to do."""

import asyncio
import multiprocessing
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import event
from sqlalchemy.engine import make_url
from structlog.typing import EventDict

import mediator.storage.database
import mediator.storage.mysql
import mediator.storage.postgresql
from mediator import MediatorApp, MediatorSettings
from mediator.errors import ConfigurationError, DatabaseUnavailableError, SchemaError, SettingsError
from mediator.storage.database import Database, checked_url
from mediator.storage.engines import SESSION, shown
from mediator.storage.schema import create_schema, verify_schema
from tests.consuming.notes import NotedV1, listener, writes
from tests.storage.rows import end_session
from tests.support import AppFactory, effects, module_of
from tests.support.databases import execute
from tests.support.own_servers import MariaDBServer, PostgreSQLServer

PASSWORD = f"pw{uuid4().hex}"
SERVERS = pytest.mark.databases("postgresql", "psycopg", "mariadb")
POSTGRESQL = pytest.mark.databases("postgresql", "psycopg")


def app(url: Any, **options: Any) -> MediatorApp:
    module = module_of("bank", NotedV1, **options.pop("module", {}))
    return MediatorApp("shop", modules=[module], **{"database": url, "environment": "test", **options})


async def start(url: Any, **options: Any) -> None:
    async with app(url, **options):
        pass


async def refusal(
    url: str, error: type[ConfigurationError] = DatabaseUnavailableError, **options: Any
) -> ConfigurationError:
    """Why an application does not start."""
    with pytest.raises(error) as caught:
        await start(url, **options)
    return caught.value


def changed(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def with_password(url: str, **parts: Any) -> str:
    """With a password that a server which trusts everybody does not look at."""
    return changed(url, **{"password": PASSWORD, **parts})


def trusted(url: str, **parts: Any) -> str:
    """With a password if the server does not look at it; MariaDB does."""
    return changed(url, **parts) if "asyncmy" in url else with_password(url, **parts)


def assert_says(error: BaseException, *parts: str) -> None:
    """What, where and what to do in one line, and no password anywhere."""
    message = str(error)
    for part in parts:
        assert part in message, message
    assert "\n" not in message
    assert PASSWORD not in "".join(traceback.format_exception(error))


@contextmanager
def warnings() -> Iterator[list[EventDict]]:
    """What is warned of in the block."""
    found: list[EventDict] = []
    with structlog.testing.capture_logs() as logs:
        yield found
    assert PASSWORD not in str(logs)
    found.extend(entry for entry in logs if entry["event"] == "database.setting_weakens_promises")


class Case(NamedTuple):
    url: str
    says: tuple[str, ...]


URLS: dict[str, Case] = {
    "another kind of database": Case(
        "oracle+oracledb_async://app:{}@db/shop", ("'oracle+oracledb_async://app:***@db/shop'", "sqlite, postgresql")
    ),
    "a synchronous driver": Case(
        "postgresql+psycopg2://app:{}@db/shop", ("app:***@db/shop", "asyncio driver: postgresql+asyncpg://… or")
    ),
    "no driver": Case("postgresql://app:{}@db/shop", ("app:***@db/shop", "or postgresql+psycopg://…")),
    "no driver for MariaDB": Case("mariadb://app:{}@db/shop", ("app:***@db/shop", "mariadb+asyncmy://…")),
    "another asyncio driver": Case("mysql+aiomysql://app:{}@db/shop", ("app:***@db/shop", "mysql+asyncmy://…")),
    "no URL": Case("shop:{}", ("database = '***'", "a URL such as sqlite+aiosqlite:///shop.db")),
    "a port that is no number": Case("postgresql+asyncpg://app:{}@db:port/shop", ("database = '***'", "a URL such as")),
    "an @ in the password": Case(
        "postgresql+asyncpg://app:pw@{}@db/shop", ("database = '***'", "@ in a password as %40")
    ),
    "an @ and a / in the password": Case("mariadb+asyncmy://app:pw@{}/x@db/shop", ("database = '***'", "as %40")),
    "an @ in the password of another kind": Case("oracle://app:pw@{}@db/shop", ("database = '***'", "as %40")),
    "another character set": Case("mariadb+asyncmy://app:{}@db/shop?charset=latin1", ("app:***@db/", "always utf8mb4")),
    "an older character set": Case("mysql+asyncmy://app:{}@db/shop?charset=utf8", ("app:***@db/", "always utf8mb4")),
    "an option that SQLite does not have": Case(
        "sqlite+aiosqlite:///shop.db?foo=1&timeout=3", ("foo is none of", "cached_statements", "the options in the URL")
    ),
    "no name": Case("postgresql+asyncpg://app:{}@db", ("app:***@db'", "name")),
    "no name on MariaDB": Case("mariadb+asyncmy://app:{}@db/", ("app:***@db/'", "name")),
}


@pytest.mark.parametrize("name", URLS)
def test_a_url_that_cannot_be_one_is_refused_when_it_is_given(name: str) -> None:
    case = URLS[name]

    with pytest.raises(SettingsError) as caught:
        app(case.url.format(PASSWORD))

    assert_says(caught.value, *case.says)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///shop.db", ""])
def test_a_url_that_no_module_uses_is_looked_at_as_well(url: str) -> None:
    with pytest.raises(SettingsError, match="database = "):
        app(url, module={"database": "sqlite+aiosqlite:///bank.db"})


def test_a_modules_url_that_is_empty_is_not_replaced() -> None:
    with pytest.raises(SettingsError, match="database = "):
        app("sqlite+aiosqlite:///shop.db", module={"database": ""})


async def test_options_that_sqlite_has_are_not_refused() -> None:
    await start("sqlite+aiosqlite://?timeout=3&cached_statements=9&detect_types=0&isolation_level=DEFERRED")

    for url in ("sqlite+aiosqlite:///file:shop.db?uri=true&mode=rw", "sqlite+aiosqlite://?check_same_thread=false"):
        assert checked_url(url) == make_url(url)


@pytest.mark.databases("mariadb")
async def test_the_character_set_that_is_used_anyway_may_be_said(database_url: str) -> None:
    await start(f"{database_url}?charset=utf8mb4", schema="create")


@pytest.mark.parametrize("own", [True, False])
def test_a_schema_without_a_name_is_refused(own: bool) -> None:
    where: dict[str, Any] = {"module": {"schema_name": ""}} if own else {"settings": MediatorSettings(schema_name="")}

    with pytest.raises(SettingsError) as caught:
        app("postgresql+asyncpg://app@db/shop", **where)

    assert_says(caught.value, "schema_name = ''", "use lower-case letters")


@pytest.mark.parametrize("rest", ["pw@{}@db/shop", "pw@{}/x@db/shop", "{}@db/shop", "x@db/shop?password={}"])
def test_a_url_is_shown_without_its_password(rest: str) -> None:
    url = make_url(f"postgresql+asyncpg://app:{rest.format(PASSWORD)}")

    assert PASSWORD not in shown(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite+aiosqlite:////tmp/a@b/shop.db", "mysql+asyncmy://app@corp:p%40/w@db/shop", "mysql+asyncmy://a@db/a@b"],
)
def test_an_at_sign_elsewhere_is_no_password(url: str) -> None:
    assert checked_url(url) == make_url(url)


@pytest.mark.parametrize("own", [True, False])
def test_a_schema_on_sqlite_is_refused(own: bool) -> None:
    where: dict[str, Any] = (
        {"module": {"schema_name": "sales"}} if own else {"settings": MediatorSettings(schema_name="sales")}
    )

    with pytest.raises(SettingsError) as caught:
        app("sqlite+aiosqlite:///shop.db", **where)

    assert_says(caught.value, "schema_name = 'sales'", "SQLite has no schemas", "table prefix")


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("sqlite+aiosqlite:///shop.db", "aiosqlite", "sqlite"),
        ("postgresql+asyncpg://app:{}@db/shop", "asyncpg", "postgresql"),
        ("postgresql+psycopg://app:{}@db/shop", "psycopg", "psycopg"),
        ("mariadb+asyncmy://app:{}@db/shop", "asyncmy", "mysql"),
        ("mysql+asyncmy://app:{}@db/shop", "asyncmy", "mysql"),
    ],
)
async def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    url: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    error = await refusal(url.format(PASSWORD), SettingsError)

    assert_says(error, f"{library} is not installed", f"install mediator-toolkit[{extra}]")


@SERVERS
async def test_nobody_listens_there(database_url: str) -> None:
    error = await refusal(with_password(database_url, port=1))

    assert_says(error, ":***@127.0.0.1:1/", "Check the address")


@SERVERS
async def test_a_host_that_does_not_exist(database_url: str) -> None:
    error = await refusal(with_password(database_url, host="no-such-host.invalid"))

    assert_says(error, ":***@no-such-host.invalid", "Check the address")


@SERVERS
@pytest.mark.parametrize("behaviour", ["never answers", "hangs up", "speaks of something else"])
async def test_whoever_listens_there_is_no_server(
    database_url: str, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediator.storage.database, "_OPEN_SECONDS", 1)
    over = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if behaviour == "never answers":
            await over.wait()
        elif behaviour == "speaks of something else":
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await refusal(with_password(database_url, port=port))
    over.set()
    server.close()

    assert_says(error, f":***@127.0.0.1:{port}/", "Check the address")
    assert ("did not answer in time" in str(error)) == (behaviour == "never answers")


@SERVERS
async def test_an_option_that_the_driver_does_not_know(database_url: str) -> None:
    error = await refusal(f"{with_password(database_url)}?no_such_option=1")

    assert_says(error, "no_such_option", "Correct the options in the URL")


@SERVERS
async def test_an_option_with_a_value_that_cannot_be(database_url: str) -> None:
    option = "prepared_statement_cache_size" if "asyncpg" in database_url else "connect_timeout"

    error = await refusal(f"{with_password(database_url)}?{option}=soon", ConfigurationError)

    assert_says(error, ":***@", "soon", "the options in the URL")


@SERVERS
async def test_a_password_among_the_options_is_not_told(database_url: str) -> None:
    url = f"{changed(database_url, port=1)}?password={PASSWORD}"

    error = await refusal(url)

    assert_says(error, "Check the address")
    assert PASSWORD not in repr(Database(url))
    assert PASSWORD not in Database(url).name


@SERVERS
async def test_a_database_that_does_not_exist(database_url: str) -> None:
    error = await refusal(trusted(database_url, database="no_such_database"))

    # Of psycopg nobody learns what the server objects to, except from its words.
    advice = "the name of the database" if "psycopg" in database_url else "Create the database first"
    assert_says(error, "/no_such_database", advice)


@SERVERS
async def test_a_user_that_does_not_exist(database_url: str) -> None:
    error = await refusal(with_password(database_url, username="nobody_at_all"))

    assert_says(error, "nobody_at_all:***@", "Check the user")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_wrong_password(driver: str, checking_server: PostgreSQLServer) -> None:
    url = checking_server.url("postgres", driver, "checked")

    error = await refusal(with_password(url))

    advice = "Check the user, the password" if driver == "psycopg" else "Check the user and the password"
    assert_says(error, "checked:***@", "password authentication failed", advice)


@pytest.mark.databases("mariadb")
async def test_a_wrong_password_on_mariadb(database_url: str) -> None:
    with new_user(database_url, "SELECT") as url:
        error = await refusal(changed(url, password=PASSWORD[::-1]))

    assert_says(error, ":***@", "Access denied", "Check the user and the password")


@pytest.fixture(scope="module")
def checking_server() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL that asks one of its users for a password."""
    with PostgreSQLServer() as server:
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"host all checked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server.start(fsync="off")
        execute(server.url(), f"CREATE ROLE checked LOGIN PASSWORD '{PASSWORD[::-1]}'")
        yield server


# --- rights -----------------------------------------------------------------------------------------------------------

TABLES = ("audit", "inbox", "meta", "outbox", "parked", "sent")
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@contextmanager
def new_user(url: str, *rights: str) -> Iterator[str]:
    """The URL of a user who may connect, and has these rights on the tables that are there."""
    name, is_mysql = f"mediator_test_{uuid4().hex[:12]}", "asyncmy" in url
    user = f"{name}@'127.0.0.1'" if is_mysql else name
    database = make_url(url).database
    if is_mysql:
        execute(url, f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'")
        if rights:
            execute(url, f"GRANT {', '.join(rights)} ON {database}.* TO {user}")
    else:
        execute(url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        execute(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        if rights:
            execute(url, f"GRANT {', '.join(rights)} ON ALL TABLES IN SCHEMA public TO {name}")
    try:
        yield with_password(url, username=name)
    finally:
        if not is_mysql:
            execute(url, f"DROP OWNED BY {name}")
        execute(url, f"DROP USER {user}")


def take(url: str, user_url: str, right: str, table: str) -> None:
    """Take one right on one table from a user."""
    name, database = make_url(user_url).username, make_url(url).database
    if "asyncmy" not in url:
        execute(url, f"REVOKE {right} ON mediator_{table} FROM {name}")
        return
    user = f"{name}@'127.0.0.1'"
    execute(url, f"REVOKE {right} ON {database}.* FROM {user}")
    for other in {*TABLES, "locks", "deliveries", "lanes", "routes"} - {table}:
        execute(url, f"GRANT {right} ON mediator_{other} TO {user}")


@SERVERS
async def test_a_user_who_may_not_create_tables(database_url: str) -> None:
    with new_user(database_url, *(["SELECT"] if "asyncmy" in database_url else [])) as url:
        error = await refusal(url, SchemaError, schema="create")

    assert_says(error, ":***@", "the tables cannot be made", "denied", "Grant", "app.ddl()")


@POSTGRESQL
async def test_a_user_who_may_not_create_the_schema(database_url: str) -> None:
    with new_user(database_url) as url:
        error = await refusal(url, SchemaError, schema="create", settings=MediatorSettings(schema_name="sales"))

    assert_says(error, ":***@", "the tables cannot be made", "denied", "Grant", "app.ddl()")


@pytest.mark.databases("mariadb")
async def test_a_user_who_may_not_create_the_database_that_is_the_schema(database_url: str) -> None:
    name = f"no_such_{uuid4().hex[:12]}"
    settings = MediatorSettings(schema_name=name)
    with new_user(database_url, "ALL PRIVILEGES") as url:
        created = await refusal(url, SchemaError, schema="create", settings=settings)
        verified = await refusal(url, ConfigurationError, schema="verify", settings=settings)

    assert_says(created, ":***@", "the tables cannot be made", "denied", name, "Grant")
    assert_says(verified, ":***@", name)


@pytest.mark.databases("mariadb")
async def test_a_user_without_rights_on_the_database(database_url: str) -> None:
    with new_user(database_url) as url:
        error = await refusal(url)

    assert_says(error, ":***@", "Access denied", "Grant the user rights on the database")


@POSTGRESQL
async def test_a_user_who_may_not_connect(database_url: str) -> None:
    with new_user(database_url) as url:
        execute(database_url, f"REVOKE CONNECT ON DATABASE {make_url(url).database} FROM PUBLIC")
        error = await refusal(url)

    assert_says(error, ":***@", "permission denied for database", "GRANT CONNECT ON DATABASE")


@POSTGRESQL
@pytest.mark.parametrize("schema_name", [None, "sales"])
async def test_a_user_who_may_not_use_the_schema(schema_name: str | None, database_url: str) -> None:
    settings = MediatorSettings(schema_name=schema_name)
    await start(database_url, schema="create", settings=settings)
    with new_user(database_url, *RIGHTS) as url:
        execute(database_url, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        verified = await refusal(url, SchemaError, schema="verify", settings=settings)
        created = await refusal(url, SchemaError, schema="create", settings=settings)

    for error in (verified, created):
        assert_says(error, ":***@", f"GRANT USAGE ON SCHEMA {schema_name or 'public'} TO")


@POSTGRESQL
async def test_a_schema_that_is_not_needed_may_be_closed(database_url: str) -> None:
    await start(database_url, schema="create")
    execute(database_url, "CREATE SCHEMA closed")
    alter(database_url, "search_path = closed, public")
    with new_user(database_url, *RIGHTS) as url:
        await start(url, schema="verify")


class Cut:
    """Ends the session of the first statement that has `of` in it, just before it is run."""

    def __init__(self, database: Database, url: str, of: str) -> None:
        self._url, self._of, self.has_happened = url, of, False
        for engine in (database._own_writer, database._own_reader):
            event.listen(engine.sync_engine, "before_cursor_execute", self._before)

    def _before(self, connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        if self._of in statement and not self.has_happened:
            self.has_happened = True
            end_session(self._url, connection.info[SESSION].number)


@SERVERS
@pytest.mark.parametrize("of", ["", "mediator_audit", "DELETE", "SELECT mediator_meta.value"])
async def test_a_connection_that_is_lost_meanwhile_is_no_lack_of_rights(of: str, database_url: str) -> None:
    await start(database_url, schema="create")
    database = Database(with_password(database_url) if "asyncmy" not in database_url else database_url)
    cut = Cut(database, database_url, of)

    with pytest.raises(DatabaseUnavailableError) as caught:
        await verify_schema(database)
    await database.close()

    assert cut.has_happened
    assert_says(caught.value, "Check the address")


@SERVERS
async def test_a_connection_that_is_lost_while_tables_are_made(database_url: str) -> None:
    database = Database(database_url)
    cut = Cut(database, database_url, "CREATE TABLE mediator_inbox")

    with pytest.raises(DatabaseUnavailableError) as caught:
        await create_schema(database)
    await database.close()

    assert cut.has_happened
    assert_says(caught.value, "Check the address")


@SERVERS
async def test_tables_that_are_locked_are_no_lack_of_rights(database_url: str) -> None:
    await start(database_url, schema="create")
    is_mysql = "asyncmy" in database_url
    impatient = make_url(database_url)
    if is_mysql:
        impatient = impatient.update_query_dict({"init_command": "SET SESSION lock_wait_timeout = 1"})
    else:
        alter(database_url, "lock_timeout = '100ms'")
    locking = "LOCK TABLES mediator_outbox WRITE" if is_mysql else "LOCK TABLE mediator_outbox IN ACCESS EXCLUSIVE MODE"
    database = Database(database_url)
    async with database.begin() as other:
        await other.exec_driver_sql(locking)
        error = await refusal(impatient.render_as_string(hide_password=False), schema="verify")
        if is_mysql:
            await other.exec_driver_sql("UNLOCK TABLES")
    await database.close()

    assert_says(error, "Start again", "what locks the tables")


@SERVERS
@pytest.mark.parametrize(
    ("right", "table"),
    [("SELECT", "meta"), ("SELECT", "inbox"), ("INSERT", "inbox"), ("UPDATE", "parked"), ("DELETE", "sent")],
)
async def test_a_user_who_lacks_a_right_on_a_table(right: str, table: str, database_url: str) -> None:
    await start(database_url, schema="create")
    with new_user(database_url, *RIGHTS) as url:
        await start(url, schema="verify")
        take(database_url, url, right, table)
        error = await refusal(url, SchemaError, schema="verify")

    assert_says(error, ":***@", f"mediator_{table}", "denied", "GRANT SELECT, INSERT, UPDATE, DELETE ON")


@SERVERS
async def test_the_rights_that_are_asked_for_are_all_that_is_needed(database_url: str, make_app: AppFactory) -> None:
    modules = [module_of("bank", listener("Write", writes), NotedV1)]
    async with make_app(*modules, schema="create"):
        pass
    with new_user(database_url, *RIGHTS) as url:
        if "asyncmy" not in database_url:
            # The application's own table draws its ids from a sequence; those of the toolkit do not.
            execute(database_url, f"GRANT USAGE ON test_effects_id_seq TO {make_url(url).username}")
        async with make_app(*modules, database=url, schema="verify") as one:
            await one.publish_in_own_transaction(NotedV1(text="modest"))
            async with one.unit_of_work() as uow:
                await uow.lock("a")
            await one.drained()
            await one.clean()

            assert await effects(one) == [("Write", "modest")]


# --- settings of the server -------------------------------------------------------------------------------------------


def alter(url: str, setting: str) -> None:
    """Change a database's own setting."""
    execute(url, f"ALTER DATABASE {make_url(url).database} SET {setting}")


@POSTGRESQL
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_another_isolation_level_is_warned_of_and_not_used(
    database_url: str, level: str, make_app: AppFactory
) -> None:
    alter(database_url, f"default_transaction_isolation = '{level}'")
    seen = []

    async def look(handler: Any, _event: Any) -> None:
        connection = await handler.session.connection()
        seen.append((await connection.exec_driver_sql("SHOW transaction_isolation")).scalar())

    with warnings() as found:
        async with make_app(module_of("bank", listener("Look", look), NotedV1), schema="create") as one:
            await one.publish_in_own_transaction(NotedV1())
            await one.drained()
            async with one.unit_of_work() as uow:
                await look(uow, None)

    assert [(entry["setting"], entry["value"]) for entry in found] == [("default_transaction_isolation", level)]
    assert "READ COMMITTED" in found[0]["consequence"]
    assert make_url(database_url).database in found[0]["database"]
    assert seen == ["read committed"] * 2


@pytest.mark.databases("mariadb")
async def test_units_of_work_are_read_committed_on_mariadb_as_well(database_url: str, make_app: AppFactory) -> None:
    async with make_app(module_of("bank", NotedV1), schema="create") as one, one.unit_of_work() as uow:
        connection = await uow.session.connection()
        levels = (await connection.exec_driver_sql("SELECT @@GLOBAL.tx_isolation, @@SESSION.tx_isolation")).one()

    assert levels == ("REPEATABLE-READ", "READ-COMMITTED")


@POSTGRESQL
async def test_commits_that_do_not_wait_for_the_disk_are_warned_of(database_url: str) -> None:
    alter(database_url, "synchronous_commit = off")

    with warnings() as found:
        await start(database_url, schema="create")

    assert [(entry["setting"], entry["value"]) for entry in found] == [("synchronous_commit", "off")]
    assert "may be lost when the server crashes" in found[0]["consequence"]


@SERVERS
async def test_a_server_with_its_usual_settings_is_warned_of_nothing(database_url: str) -> None:
    with warnings() as found:
        await start(database_url, schema="create")

    assert found == []


@POSTGRESQL
async def test_a_database_that_is_read_only_by_default(database_url: str) -> None:
    alter(database_url, "default_transaction_read_only = on")

    error = await refusal(with_password(database_url), schema="create")

    assert_says(error, ":***@", "default_transaction_read_only is on", "may write")


@pytest.mark.databases("mariadb")
async def test_a_mariadb_whose_transactions_may_not_write(database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"init_command": "SET SESSION tx_read_only = 1"})

    error = await refusal(url.render_as_string(hide_password=False), schema="create")

    assert_says(error, "transaction_read_only is on", "may write")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_standby(driver: str, checking_server: PostgreSQLServer) -> None:
    await start(checking_server.url("postgres", driver), schema="create")
    with PostgreSQLServer(of=checking_server) as standby:
        standby.start()

        error = await refusal(with_password(standby.url("postgres", driver)), schema="verify")

    assert_says(error, ":***@", "read-only replica", "Use the address of the primary")


async def test_a_postgresql_that_may_lose_commits_is_warned_of(checking_server: PostgreSQLServer) -> None:
    with PostgreSQLServer() as server:
        server.start(fsync="off", full_page_writes="off", synchronous_commit="off")

        with warnings() as found:
            await start(server.url(), schema="create")

    expected = {("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")}
    assert {(entry["setting"], entry["value"]) for entry in found} == expected


@pytest.fixture(scope="module")
def stopped_mariadb() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        server.start()
        execute(server.url(), "CREATE DATABASE shop")
        server.stop()
        yield server


@pytest.fixture
def own_mariadb(stopped_mariadb: MariaDBServer) -> Iterator[MariaDBServer]:
    """A MariaDB to be started with settings of the test's own."""
    yield stopped_mariadb
    stopped_mariadb.stop()


async def test_a_mariadb_that_may_lose_commits_is_warned_of(own_mariadb: MariaDBServer) -> None:
    own_mariadb.start(**{"innodb_flush_log_at_trx_commit": 2, "log-bin": "log", "sync_binlog": 0, "sql_mode": ""})

    with warnings() as found:
        await start(own_mariadb.url("shop"), schema="create")

    weak = {entry["setting"]: (entry["value"], entry["consequence"]) for entry in found}
    assert weak.keys() == {"innodb_flush_log_at_trx_commit", "sync_binlog", "sql_mode"}
    assert weak["innodb_flush_log_at_trx_commit"] == ("2", "a commit that returned may be lost when the server crashes")
    assert "cut without an error" in weak["sql_mode"][1]


async def test_a_mariadb_that_logs_statements_is_refused(own_mariadb: MariaDBServer) -> None:
    own_mariadb.start(**{"log-bin": "log", "binlog_format": "STATEMENT"})

    error = await refusal(own_mariadb.url("shop"), schema="create")

    assert_says(error, "binlog_format", "ROW")


async def test_a_mariadb_that_is_read_only(own_mariadb: MariaDBServer) -> None:
    own_mariadb.start(read_only=1)

    error = await refusal(own_mariadb.url("shop"), schema="create")

    assert_says(error, "read", "primary")


@SERVERS
async def test_a_server_that_is_too_old(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediator.storage.postgresql, "_OLDEST", 990_000)
    monkeypatch.setattr(mediator.storage.mysql, "_OLDEST_MARIADB", (99, 0))
    monkeypatch.setattr(mediator.storage.mysql, "_OLDEST_MYSQL", (99, 0))

    error = await refusal(database_url, schema="create")

    assert_says(error, "PostgreSQL 1" if "postgresql" in database_url else "10.", "or newer")


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "UPDATE mediator_meta SET value = '99' WHERE name = 'schema_version'",
            ("'99'", "this toolkit needs", "Install"),
        ),
        ("UPDATE mediator_meta SET value = '1' WHERE name = 'schema_version'", ("'1'", 'app.ddl(since="1")')),
        ("UPDATE mediator_meta SET value = '8' WHERE name = 'slots'", ("8 slots", "has 16", "Install")),
        ("DELETE FROM mediator_meta", ("mediator_meta", 'schema="create"')),
        ("DROP TABLE mediator_sent", ("missing: table mediator_sent", 'schema="create"')),
        ("ALTER TABLE mediator_parked DROP COLUMN reason", ("missing: column mediator_parked.reason",)),
    ],
)
async def test_tables_that_are_not_what_is_needed(change: str, says: tuple[str, ...], database_url: str) -> None:
    await start(database_url, schema="create")
    execute(database_url, change)

    error = await refusal(database_url, SchemaError, schema="verify")

    assert_says(error, *says)


@SERVERS
async def test_nothing_is_created_unasked_on_a_server(database_url: str) -> None:
    error = await refusal(database_url, SchemaError)

    assert_says(error, "missing: table mediator_audit", 'schema="create"', "app.ddl()")


# --- files ------------------------------------------------------------------------------------------------------------


def a_missing_folder(folder: Path) -> Path:
    return folder / "nowhere" / "shop.db"


def a_folder(folder: Path) -> Path:
    return folder


def no_database(folder: Path) -> Path:
    (folder / "shop.db").write_bytes(b"something else " * 100)
    return folder / "shop.db"


def a_device(_folder: Path) -> Path:
    return Path("/dev/full")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (a_missing_folder, ("there is no folder", "nowhere", "Make it first")),
        (a_folder, ("cannot be used", "its permissions and the space on the disk")),
        (no_database, ("file is not a database", "its permissions and the space on the disk")),
        (a_device, ("cannot be used", "its permissions and the space on the disk")),
    ],
)
async def test_a_file_that_sqlite_cannot_use(
    place: Callable[[Path], Path], says: tuple[str, ...], tmp_path: Path
) -> None:
    error = await refusal(f"sqlite+aiosqlite:///{place(tmp_path)}")

    assert_says(error, *says)


NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody may write; no test's own folder lets others in."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def refusal_of_nobody(url: str, options: dict[str, Any]) -> tuple[type[BaseException] | None, str]:
    """Why an application does not start for a user whom modes of files apply to; runs in a process of its own."""
    # What is imported late is imported now: that user may not read it.
    asyncio.run(start("sqlite+aiosqlite://"))
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        asyncio.run(start(url, **options))
    except ConfigurationError as error:
        return type(error), str(error)
    return None, "it started"


def refused_to_nobody(url: str, **options: Any) -> tuple[type[BaseException] | None, str]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(refusal_of_nobody, url, options).result()


@pytest.mark.parametrize(("journal", "schema"), [("WAL", "verify"), ("WAL", "auto"), ("DELETE", "verify")])
def test_a_file_that_cannot_be_written(journal: str, schema: str, open_folder: Path) -> None:
    file = open_folder / "shop.db"
    asyncio.run(start(f"sqlite+aiosqlite:///{file}"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
    file.chmod(0o444)

    error, message = refused_to_nobody(f"sqlite+aiosqlite:///{file}", schema=schema)

    assert error is DatabaseUnavailableError, message
    assert "attempt to write a readonly database" in message
    assert "its permissions" in message


async def test_the_check_of_a_file_changes_nothing_in_it(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    await start(f"sqlite+aiosqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before = file.read_bytes()

    await start(f"sqlite+aiosqlite:///{file}", schema="verify")

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    assert file.read_bytes() == before


def a_lock_of_somebody_else(lock: Path) -> None:
    lock.touch()
    lock.chmod(0o400)


def a_folder_as_lock(lock: Path) -> None:
    lock.mkdir()


@pytest.mark.parametrize("spoil", [a_lock_of_somebody_else, a_folder_as_lock])
def test_a_lock_file_of_the_relay_that_cannot_be_opened(spoil: Callable[[Path], None], open_folder: Path) -> None:
    file = open_folder / "shop.db"
    asyncio.run(start(f"sqlite+aiosqlite:///{file}"))
    file.chmod(0o666)
    lock = open_folder / "shop.db.mediator_relay.lock"
    lock.unlink(missing_ok=True)
    spoil(lock)

    error, message = refused_to_nobody(f"sqlite+aiosqlite:///{file}")

    assert error is DatabaseUnavailableError, message
    assert str(lock) in message
    assert "its permissions" in message
    # Whoever does not relay has no use for it.
    assert refused_to_nobody(f"sqlite+aiosqlite:///{file}", roles=["publish"]) == (None, "it started")


async def test_a_lock_file_that_another_relay_holds_is_no_fault(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    async with app(url):
        await start(url)
