"""Modules and applications with databases, schemas or prefixes of their own: rows stay where they belong."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.engine import make_url

from mediator import Command, CommandHandler, Mediator, MediatorApp
from mediator.errors import LockTimeoutError, OtherDatabaseError, SchemaError, SettingsError
from mediator.storage.database import Database
from mediator.storage.locks import KeyLocks
from mediator.storage.outbox import SLOTS
from mediator.storage.schema import create_schema, take_over
from mediator.storage.slots import ServerLocks
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, writes
from tests.support import Effect, create_tables, effects, module_of, quick_settings
from tests.support.databases import SERVERS, Servers, execute

ALL = frozenset(range(SLOTS))
SOON = timedelta(milliseconds=100)
A_FEW_POLLS = 0.3
LONG_AGO = 1


@dataclass(frozen=True)
class Place:
    """Where the toolkit's tables of a module or an application are."""

    url: str
    schema: str | None = None
    prefix: str = "mediator_"

    @property
    def of_module(self) -> dict[str, Any]:
        return {"database": self.url, "schema_name": self.schema}

    @property
    def of_application(self) -> dict[str, Any]:
        settings = quick_settings(table_prefix=self.prefix, schema_name=self.schema)
        return {"database": self.url, "settings": settings}

    def database(self) -> Database:
        return Database(self.url, schema=self.schema, prefix=self.prefix)

    async def counts(self) -> dict[str, int]:
        """How many rows are committed there, by table; empty ones are left out."""
        database = self.database()
        try:
            async with database.read() as connection:
                found = {}
                for table in ("outbox", "sent", "inbox", "parked"):
                    rows = select(func.count()).select_from(getattr(database.tables, table))
                    found[table] = int(await connection.scalar(rows) or 0)
        finally:
            await database.close()
        return {table: count for table, count in found.items() if count}


@contextmanager
def a_name(servers: Servers, server: str, *, create: bool = False) -> Iterator[str]:
    """A database's name for the time of the block, short enough for a schema; an application may make it."""
    name = f"mediator_test_{int(time.time())}_0_{uuid4().hex[:8]}"
    try:
        if create:
            servers.create(server, name)
        yield name
    finally:
        servers.drop(server, name)


KINDS = ("sqlite", "postgresql", "mariadb", "postgresql schema", "mariadb schema", "postgresql mariadb")


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """The application's place and another: a database on the same server or another one, or a schema."""
    first, _, second = request.param.partition(" ")
    with ExitStack() as stack:
        url = stack.enter_context(servers.new_database(first, tmp_path))
        if second == "schema":
            schema = "apart" if first == "postgresql" else stack.enter_context(a_name(servers, first))
            yield Place(url), Place(url, schema)
            return
        folder = tmp_path / "other"
        folder.mkdir()
        yield Place(url), Place(stack.enter_context(servers.new_database(second or first, folder)))


@dataclass(frozen=True)
class Note(Command[None]):
    text: str = ""


class NoteHandler(CommandHandler[Note, None]):
    async def handle(self, command: Note) -> None: ...


async def app_at(places: tuple[Place, Place], *handlers: type, **options: Any) -> MediatorApp:
    """The module `bank` at the first place, `mail` with these handlers at the other."""
    home, away = places
    for url in {home.url, away.url}:
        await create_tables(url)
    modules = [module_of("bank", Note, NoteHandler), module_of("mail", *handlers, **away.of_module)]
    defaults = {"database": home.url, "environment": "test", "schema": "create", "settings": quick_settings()}
    return MediatorApp("shop", modules=modules, **{**defaults, **options})


class TestModuleElsewhere:
    """A module with a database or schema of its own."""

    async def test_its_rows_are_there_and_nowhere_else(self, places: tuple[Place, Place]) -> None:
        home, away = places

        def dies(*_: object) -> None:
            raise LookupError

        handlers = listener("Answer", lambda *_: RemarkedV1()), listener("Die", dies, retry=at_once(1))
        async with await app_at(places, *handlers) as app:
            await app.publish_in_own_transaction(NotedV1(), module="bank")
            await app.publish_in_own_transaction(RemarkedV1(), module="mail")
            await app.drained()

            (letter,) = await app.dead_letters_of("mail").list()
            assert letter.subscriber_id == "mail.die"
            assert await app.dead_letters_of("bank").list() == []
            assert await home.counts() == {"sent": 1}
            assert await away.counts() == {"sent": 2, "inbox": 2, "parked": 1}

            for place in places:
                await asyncio.to_thread(expire_history, place)
            assert await app.clean() == 3
        assert (await home.counts(), await away.counts()) == ({}, {"inbox": 2, "parked": 1})

    async def test_effect_and_inbox_row_commit_or_roll_back_together(self, places: tuple[Place, Place]) -> None:
        home, away = places
        seen: list[tuple[int, dict[str, int]]] = []

        async def look() -> None:
            found = await asyncio.to_thread(execute, away.url, select(func.count()).select_from(Effect))
            seen.append((found[0][0], await away.counts()))

        async def react(handler: Any, event: NotedV1) -> None:
            writes(handler, event)
            await handler.session.flush()
            await look()
            if handler.context.attempt == 1:
                raise LookupError

        async with await app_at(places, listener("Send", react, retry=at_once(2))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            await look()

            assert seen == [(0, {}), (0, {"inbox": 1, "parked": 1}), (1, {"inbox": 1})]
            assert await effects(app, "mail") == [("Send", "1")]
        assert await home.counts() == {"sent": 1}

    @pytest.mark.parametrize("places", ["sqlite", "mariadb schema", "postgresql schema"], indirect=True)
    async def test_it_cannot_join_the_transaction_of_another_place(self, places: tuple[Place, Place]) -> None:
        class Sends(listener("Sends", lambda *_: None)):  # type: ignore[misc]
            retry = at_once(1)

            def __init__(self, mediator: Mediator) -> None:
                self.mediator = mediator

            async def handle(self, event: NotedV1) -> None:
                await self.mediator.send(Note())

        async with await app_at(places, Sends) as app:
            async with app.unit_of_work("mail") as uow:
                with pytest.raises(OtherDatabaseError) as refused:
                    await app.mediator.send(Note())
                with pytest.raises(OtherDatabaseError, match=r"unit_of_work\(\) inside a unit of work"):
                    async with app.unit_of_work("bank"):
                        pass
                async with app.unit_of_work("mail") as joined:
                    assert joined is uow
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert (refused.value.what, refused.value.module) == ("Note", "bank")
            assert "one transaction cannot span both" in str(refused.value)
            (letter,) = await app.dead_letters_of("mail").list()
            assert (letter.error_type or "").endswith("OtherDatabaseError")


def expire_history(place: Place) -> None:
    execute(place.url, update(place.database().tables.sent).values(sent_at=LONG_AGO))


def test_a_schema_on_sqlite_is_refused_when_the_application_is_made() -> None:
    with pytest.raises(SettingsError, match="schema_name = 'apart' cannot work: SQLite has no schemas"):
        MediatorApp(
            "shop",
            modules=[module_of("mail", schema_name="apart")],
            database="sqlite+aiosqlite:///test.db",
            environment="test",
        )


def application(name: str, place: Place, *handlers: type, **options: Any) -> MediatorApp:
    """An application of one module, at a place that may be another's too."""
    defaults = {"environment": "test", "schema": "create", **place.of_application}
    return MediatorApp(name, modules=[module_of("mail", *handlers)], **{**defaults, **options})


@pytest.mark.every_database
class TestTwoApplicationsInOnePlace:
    """With the same tables they would be one application to the database."""

    async def test_the_second_is_refused_and_the_first_may_come_again(self, database_url: str) -> None:
        place = Place(database_url)
        async with application("shop", place) as shop:
            with pytest.raises(SchemaError, match="belong to the application 'shop', this one is 'till'") as refused:
                async with application("till", place):
                    pass
            await shop.publish_in_own_transaction(NotedV1())
            await shop.drained()
        assert "table_prefix or schema of its own" in refused.value.fix
        async with application("shop", place), application("shop", place, schema="verify"):
            pass

    async def test_of_two_that_start_at_once_one_is_refused(self, database_url: str) -> None:
        databases = [Database(database_url) for _ in range(2)]
        await create_schema(databases[0])

        names = ("shop", "till")
        outcomes = await asyncio.gather(*map(take_over, databases, names), return_exceptions=True)
        for database in databases:
            await database.close()

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "SchemaError"]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "postgresql schema", "mariadb schema"])
def apart(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """Two prefixes or two schemas of one database."""
    server, _, second = request.param.partition(" ")
    with ExitStack() as stack:
        url = stack.enter_context(servers.new_database(server, tmp_path))
        if not second:
            yield Place(url, prefix="shop_"), Place(url, prefix="till_")
        elif server == "postgresql":
            yield Place(url, "shop"), Place(url, "till")
        else:
            one, other = (stack.enter_context(a_name(servers, server)) for _ in range(2))
            yield Place(url, one), Place(url, other)


class TestTwoApplicationsApart:
    """With a prefix or schema each they have nothing to do with each other."""

    async def test_neither_relays_what_is_the_others(self, apart: tuple[Place, Place]) -> None:
        one, other = apart
        await create_tables(one.url)
        send = listener("Send", writes)
        async with (
            application("shop", one, send, roles={"publish"}) as shop,
            application("till", other, send) as till,
        ):
            await shop.publish_in_own_transaction(NotedV1(text="shop"))
            await till.publish_in_own_transaction(NotedV1(text="till"))
            await till.drained()
            await asyncio.sleep(A_FEW_POLLS)

            assert await effects(till) == [("Send", "till")]
        assert await one.counts() == {"outbox": 1}
        assert await other.counts() == {"sent": 1, "inbox": 1}

    async def test_neither_locks_handles_or_cleans_what_is_the_others(self, apart: tuple[Place, Place]) -> None:
        one, other = apart
        await create_tables(one.url)
        send = listener("Send", writes)
        async with application("shop", one, send) as shop, application("till", other, send) as till:
            await eventually(lambda: slots_of(shop) == slots_of(till) == ALL)
            if "sqlite" not in one.url:  # one transaction writes at a time there
                async with shop.unit_of_work() as uow:
                    await uow.lock("a")
                    await locked(other, "a")
            shop.pause("mail.send")
            for app in (shop, till):
                await app.publish_in_own_transaction(NotedV1(text=app.name))
                await app.drained()
            for place in apart:
                await asyncio.to_thread(expire_history, place)

            assert await till.clean() == 1
            assert await other.counts() == {"inbox": 1}
            await asyncio.sleep(A_FEW_POLLS)
            assert await one.counts() == {"sent": 1, "inbox": 1, "parked": 1}
            shop.resume("mail.send")
            await shop.drained()
            assert await effects(shop) == [("Send", "till"), ("Send", "shop")]


def slots_of(app: MediatorApp) -> frozenset[int]:
    (services,) = app._started("the test").services
    return services.relay.owned_slots


async def locked(place: Place, key: str) -> None:
    """Lock a key for a moment; raises LockTimeoutError."""
    database = place.database()
    try:
        await database.open()
        async with database.writer.begin() as connection:
            await KeyLocks(database).take(connection, [key], SOON)
    finally:
        await database.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def two_names(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[Place, Place]]:
    """The same tables: without a schema, and with the name of the one that is meant then."""
    server = request.param
    with ExitStack() as stack:
        name = stack.enter_context(a_name(servers, server, create=True))
        url = SERVERS[server].url.set(database=name).render_as_string(hide_password=False)
        yield Place(url), Place(url, name if server == "mariadb" else "public")


class TestTheSamePlaceByAnotherName:
    """What is locked is the tables, whatever somebody calls them."""

    async def test_relays_share_the_slots(self, two_names: tuple[Place, Place]) -> None:
        databases = [place.database() for place in two_names]
        for database in databases:
            await database.open()
        relays = [ServerLocks(database) for database in databases]
        try:
            for _ in range(2):
                shares = [await relay.acquire(()) for relay in relays]
            shares = [await relay.acquire(()) for relay in relays]
        finally:
            for relay, database in zip(relays, databases, strict=True):
                await relay.release()
                await database.close()

        assert sorted(slot for share in shares for slot in share) == sorted(ALL)
        assert [len(share) for share in shares] == [SLOTS // 2] * 2

    async def test_processes_share_slots_and_keys(self, two_names: tuple[Place, Place]) -> None:
        one, other = two_names
        async with application("shop", one) as first, application("shop", other) as second:
            await eventually(lambda: len(slots_of(first)) == len(slots_of(second)) == SLOTS // 2)
            assert slots_of(first) | slots_of(second) == ALL

            async with first.unit_of_work() as uow:
                await uow.lock("a")
                with pytest.raises(LockTimeoutError):
                    await locked(other, "a")
                await locked(other, "b")
            await locked(other, "a")

    async def test_another_application_is_refused(self, two_names: tuple[Place, Place]) -> None:
        one, other = two_names
        async with application("shop", one, roles={"publish"}):
            with pytest.raises(SchemaError, match="belong to the application 'shop', this one is 'till'"):
                async with application("till", other):
                    pass


@pytest.mark.databases("psycopg")
async def test_users_with_search_paths_of_their_own_have_tables_of_their_own(database_url: str) -> None:
    names = ("shop_a", "shop_b")
    for schema in names:
        execute(database_url, f"CREATE SCHEMA {schema}")
    one, other = (Place(with_search_path(database_url, schema)) for schema in names)
    for place in (one, other):
        await create_tables(place.url)
    send = listener("Send", writes)

    async with application("shop", one, send) as shop, application("till", other, send) as till:
        await eventually(lambda: slots_of(shop) == slots_of(till) == ALL)
        await shop.publish_in_own_transaction(NotedV1(text="shop"))
        await shop.drained()
        async with shop.unit_of_work() as uow:
            await uow.lock("a")
            await locked(other, "a")

        assert (await effects(shop), await effects(till)) == ([("Send", "shop")], [])
        assert [services.database.tables.place for app in (shop, till) for services in app._started("").services] == [
            "shop_a.mediator_",
            "shop_b.mediator_",
        ]
    assert (await one.counts(), await other.counts()) == ({"sent": 1, "inbox": 1}, {})
    assert await Place(database_url, "shop_a").counts() == {"sent": 1, "inbox": 1}


def with_search_path(url: str, schema: str) -> str:
    return make_url(url).set(query={"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
