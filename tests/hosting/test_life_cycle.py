import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from injector import Binder, singleton
from sqlalchemy import text
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    Command,
    CommandHandler,
    IntegrationEventHandler,
    IntegrationEventPublisher,
    Mediator,
    MediatorApp,
    Module,
    Outgoing,
    PipelineBehavior,
    UnitOfWork,
    UnitOfWorkScope,
    unit_of_work_scope,
)
from mediator.application.behaviors import Proceed
from mediator.errors import (
    DatabaseUnavailableError,
    DrainTimeoutError,
    NotRunningError,
    SchemaError,
    SettingsError,
    TransportUnavailableError,
    UnitOfWorkClosedError,
    UsageError,
    WiringError,
)
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, rows, writes
from tests.support import Account, AppFactory, Effect, effects, module_of, quick_settings


@dataclass(frozen=True)
class Note(Command[None]):
    text: str = ""


class NoteHandler(CommandHandler[Note, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Note) -> None:
        self.session.add(Effect(what="noted", detail=command.text))


def bank() -> Module:
    return module_of("bank", Note, NoteHandler)


def running_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


class TestStarting:
    async def test_before_and_after_nothing_can_be_sent(self, make_app: AppFactory) -> None:
        app = make_app(bank())

        async def try_all() -> None:
            with pytest.raises(NotRunningError, match=r"send\(\) needs a running application"):
                await app.mediator.send(Note())
            with pytest.raises(NotRunningError, match="inside `async with app:`"):
                await app.drained()
            with pytest.raises(NotRunningError):
                _ = app.dead_letters
            with pytest.raises(NotRunningError):
                async with app.unit_of_work():
                    pass

        await try_all()
        async with app:
            await app.mediator.send(Note())
        await try_all()

    async def test_a_mediator_that_was_kept_is_refused_after_the_stop(self, make_app: AppFactory) -> None:
        async with make_app(bank()) as app:
            kept = app.mediator
        with pytest.raises(NotRunningError, match="send"):
            await kept.send(Note())

    async def test_starting_twice_is_refused_and_does_no_harm(self, make_app: AppFactory) -> None:
        async with make_app(bank()) as app:
            with pytest.raises(UsageError, match="application 'shop' is running already"):
                await app.__aenter__()
            await app.mediator.send(Note("x"))

            assert await effects(app) == [("noted", "x")]

    async def test_two_starts_at_the_same_moment_are_one(self, make_app: AppFactory) -> None:
        app = make_app(bank())

        outcomes = await asyncio.gather(app.__aenter__(), app.__aenter__(), return_exceptions=True)
        await app.__aexit__(None, None, None)

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["MediatorApp", "UsageError"]
        assert running_tasks() == set()

    async def test_it_can_be_started_again(self, make_app: AppFactory) -> None:
        app = make_app(bank(), module_of("mail", listener("Send", writes)))

        for text_ in ("one", "two"):
            async with app:
                await app.mediator.send(Note(text_))
                await app.publish_in_own_transaction(NotedV1(text=text_))
                await app.drained()

        async with app:
            assert await effects(app) == [("noted", "one"), ("Send", "one"), ("noted", "two"), ("Send", "two")]

    async def test_a_singleton_with_a_mediator_works_after_a_second_start(self, make_app: AppFactory) -> None:
        class Desk:
            def __init__(self, mediator: Mediator) -> None:
                self.mediator = mediator

        class Forward(IntegrationEventHandler[NotedV1]):
            retry = at_once(1)

            def __init__(self, desk: Desk) -> None:
                self.desk = desk

            async def handle(self, event: NotedV1) -> None:
                await self.desk.mediator.send(Note(event.text))

        def bind(binder: Binder) -> None:
            binder.bind(Desk, scope=singleton)

        app = make_app(bank(), module_of("mail", Forward, bindings=[bind]))
        for text_ in ("one", "two"):
            async with app:
                await app.publish_in_own_transaction(NotedV1(text=text_))
                await app.drained()

        async with app:
            assert await effects(app) == [("noted", "one"), ("noted", "two")]

    async def test_a_behaviour_around_the_transaction_may_have_the_mediator(self, make_app: AppFactory) -> None:
        class Around(PipelineBehavior):
            inside_transaction = False

            def __init__(self, mediator: Mediator) -> None:
                self.mediator = mediator

            async def handle(self, message: Any, proceed: Proceed) -> Any:
                if message.text == "x":
                    await self.mediator.send(Note("before"))
                return await proceed()

        async with make_app(bank(), behaviors=[Around]) as app:
            await app.mediator.send(Note("x"))

            assert await effects(app) == [("noted", "before"), ("noted", "x")]


class Broken(MemoryTransport):
    """Fails at one moment of the start, once."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment: str | None = moment
        self.closed = 0

    def fail(self, moment: str) -> None:
        if self.moment == moment:
            self.moment = None
            raise TransportUnavailableError("broken", moment)

    async def open(self) -> None:
        self.fail("open")
        await super().open()

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def provision(self, topics: Any, groups: Any, *, create: bool = True) -> None:
        self.fail("provision")

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Any:
        self.fail(group)
        return await super().subscribe(group, topics, prefetch)


class TestFailingStart:
    @pytest.mark.parametrize("moment", ["open", "provision", "shop.mail", "shop.post"])
    async def test_everything_is_closed_and_a_second_start_works(self, make_app: AppFactory, moment: str) -> None:
        transport, threads = Broken(moment), set(threading.enumerate())
        app = make_app(
            bank(),
            module_of("mail", listener("Send", writes)),
            module_of("post", listener("Print", writes)),
            transport=transport,
        )

        with pytest.raises(TransportUnavailableError, match=moment):
            await app.__aenter__()

        assert running_tasks() == set()
        await eventually(lambda: set(threading.enumerate()) <= threads)
        assert transport.closed == (0 if moment == "open" else 1)
        with pytest.raises(NotRunningError):
            await app.mediator.send(Note())
        async with app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()
            assert sorted(await effects(app)) == [("Print", "x"), ("Send", "x")]

    async def test_wrong_wiring_opens_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "shop.db"
        app = MediatorApp(
            "shop",
            modules=[Module("bank", package="no_such_package")],
            database=f"sqlite+aiosqlite:///{file}",
            environment="test",
        )

        with pytest.raises(WiringError):
            await app.__aenter__()

        assert not file.exists()

    async def test_the_second_of_two_databases_cannot_be_opened(self, make_app: AppFactory, tmp_path: Path) -> None:
        threads = set(threading.enumerate())
        elsewhere = f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'x.db'}"
        app = make_app(bank(), module_of("mail", listener("Send", writes), database=elsewhere))

        with pytest.raises(DatabaseUnavailableError, match="there is no folder"):
            await app.__aenter__()

        await eventually(lambda: set(threading.enumerate()) <= threads)

    async def test_an_error_in_the_block_is_raised_and_all_is_closed(self, make_app: AppFactory) -> None:
        threads = set(threading.enumerate())

        with pytest.raises(ZeroDivisionError):
            async with make_app(bank(), module_of("mail", listener("Send", writes))):
                raise ZeroDivisionError

        assert running_tasks() == set()
        await eventually(lambda: set(threading.enumerate()) <= threads)


class TestDrained:
    async def test_what_is_left_is_named(self, make_app: AppFactory) -> None:
        def fails(*_: object) -> None:
            raise LookupError("not yet")

        waiting = at_once(5).fixed(5, timedelta(hours=1))
        async with make_app(module_of("mail", listener("Send", fails, retry=waiting))) as app:
            await app.publish_in_own_transaction(NotedV1(), NotedV1())
            with pytest.raises(DrainTimeoutError) as caught:
                await app.drained(timedelta(milliseconds=500))

        assert "not drained within 0.5 s; still pending: 2 retries of mail.send" in str(caught.value)
        assert "app.dead_letters" in str(caught.value)
        assert caught.value.pending == "2 retries of mail.send"

    async def test_scheduled_events_are_pending_unless_left_out(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            await app.publish_in_own_transaction(Outgoing(NotedV1(), delay=timedelta(hours=1)))
            await app.drained(scheduled=False)
            with pytest.raises(DrainTimeoutError, match="1 scheduled events"):
                await app.drained(timedelta(milliseconds=100))

    async def test_dead_letters_and_what_waits_behind_them_are_not_pending(self, make_app: AppFactory) -> None:
        def fails(*_: object) -> None:
            raise LookupError("never")

        async with make_app(module_of("mail", listener("Send", fails, ordering="key", retry=at_once(1)))) as app:
            await app.publish_in_own_transaction(NotedV1(), NotedV1())
            await app.drained()

            assert [row.status for row in await rows(app, "parked")] == ["dead", "blocked"]

    async def test_it_waits_for_what_handlers_publish(self, make_app: AppFactory) -> None:
        mail = module_of(
            "mail", listener("Answer", lambda *_: RemarkedV1(text="y")), listener("Told", writes, RemarkedV1)
        )
        async with make_app(mail) as app:
            for _ in range(5):
                await app.publish_in_own_transaction(NotedV1())
                await app.drained()

            assert len(await effects(app)) == 5


class TestUnitOfWork:
    async def test_leaving_the_block_commits(self, make_app: AppFactory) -> None:
        async with make_app(bank(), module_of("mail", listener("Send", writes))) as app:
            async with app.unit_of_work("bank") as uow:
                uow.session.add(Account(owner="Ada"))
                uow.publish(NotedV1(text="x"))
            await app.drained()

            async with app.unit_of_work() as uow:
                assert [one.owner for one in (await uow.session.exec(select(Account))).all()] == ["Ada"]
            assert await effects(app) == [("Send", "x")]

    async def test_an_exception_rolls_back(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:

            async def fail() -> None:
                async with app.unit_of_work() as uow:
                    uow.session.add(Effect(what="ghost"))
                    uow.publish(NotedV1())
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            await app.drained()

            assert await effects(app) == []
            assert await rows(app, "sent") == []

    async def test_inside_another_one_it_joins(self, make_app: AppFactory) -> None:
        async with make_app(bank()) as app:

            async def fail() -> None:
                async with app.unit_of_work() as outer:
                    async with app.unit_of_work() as inner:
                        assert inner is outer
                        inner.session.add(Effect(what="inner"))
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()

            assert await effects(app) == []

    async def test_a_module_with_another_database_does_not_join(self, make_app: AppFactory, database_url: str) -> None:
        other = database_url.replace("test.db", "other.db")
        app = make_app(module_of("till"), module_of("bank", Note, NoteHandler, database=other))

        async with app, app.unit_of_work("till"):
            with pytest.raises(UsageError, match="bank"):
                await app.mediator.send(Note())
            with pytest.raises(UsageError, match="bank"):
                await app.unit_of_work("bank").__aenter__()

    async def test_an_unknown_module_is_named_with_those_there_are(self, make_app: AppFactory) -> None:
        async with make_app(bank(), module_of("mail")) as app:
            with pytest.raises(SettingsError, match="module = 'till' cannot work: this application has bank, mail"):
                async with app.unit_of_work("till"):
                    pass
            with pytest.raises(SettingsError, match="'till'"):
                app.dead_letters_of("till")

    async def test_after_its_end_nothing_can_be_published(self, make_app: AppFactory) -> None:
        async with make_app(bank()) as app:
            async with app.unit_of_work() as uow:
                pass
            with pytest.raises(UnitOfWorkClosedError, match="publishing NotedV1: this unit of work has ended"):
                uow.publish(NotedV1())


class TestPublishingInATransactionOfItsOwn:
    async def test_several_events_are_one_transaction(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            with pytest.raises(Exception, match="cannot be published"):
                await app.publish_in_own_transaction(NotedV1(text="x"), NotedV1(text="\0"))
            await app.drained()

            assert await effects(app) == []

    async def test_inside_a_unit_of_work_it_is_refused(self, make_app: AppFactory) -> None:
        async with make_app(bank()) as app:
            async with app.unit_of_work():
                with pytest.raises(UsageError, match="even if that rolls back: use the publisher"):
                    await app.publish_in_own_transaction(NotedV1())
            assert await rows(app, "outbox") == await rows(app, "sent") == []

    async def test_it_names_the_module_that_publishes(self, make_app: AppFactory) -> None:
        async with make_app(bank(), module_of("till")) as app:
            await app.publish_in_own_transaction(NotedV1(), module="till")
            await app.drained()

            assert [row.source for row in await rows(app, "sent")] == ["/shop/till"]


class TestScope:
    """What is bound in `UnitOfWorkScope` is one object for each unit of work."""

    async def test_one_for_each_unit_of_work_by_plan_and_by_injector(self, make_app: AppFactory) -> None:
        seen: list[tuple[Any, Any, Any]] = []

        class Basket:
            pass

        @unit_of_work_scope
        class Decorated:
            def __init__(self, basket: Basket, session: AsyncSession) -> None:
                self.basket, self.session = basket, session

        class ByInjector:
            def __init__(self, baskets: list[Basket], session: AsyncSession, publisher: IntegrationEventPublisher):
                self.baskets, self.session, self.publisher = baskets, session, publisher

        def bind(binder: Binder) -> None:
            binder.bind(Basket, scope=UnitOfWorkScope)
            binder.multibind(list[Basket], to=lambda: [binder.injector.get(Basket)])

        class Shop(CommandHandler[Note, None]):
            def __init__(
                self, basket: Basket, decorated: Decorated, left: ByInjector, uow: UnitOfWork, session: AsyncSession
            ) -> None:
                assert decorated.basket is basket is left.baskets[0]
                assert session is uow.session is decorated.session is left.session
                assert left.publisher is uow
                seen.append((basket, decorated, session))

            async def handle(self, command: Note) -> None:
                if command.text == "outer":
                    await app.mediator.send(Note("inner"))

        app = make_app(module_of("bank", Note, Shop, bindings=[bind]))
        async with app:
            await app.mediator.send(Note("outer"))
            await app.mediator.send(Note("another"))

        outer, inner, another = seen
        assert all(one is other for one, other in zip(outer, inner, strict=True))
        assert not any(one is other for one, other in zip(outer, another, strict=True))


class TestEnvironments:
    @pytest.mark.parametrize(
        ("environment", "environments", "address"),
        [
            ("dev", None, "dev.bank.public.notes.v1"),
            ("Development", {"Development": "dev", "Production": "prod"}, "dev.bank.public.notes.v1"),
            ("Production", {"Development": "dev", "Production": "prod"}, "prod.bank.public.notes.v1"),
            ("eu-west-1", {"Development": "dev"}, "eu-west-1.bank.public.notes.v1"),
        ],
    )
    async def test_the_name_in_topics(
        self, make_app: AppFactory, environment: str, environments: dict[str, str] | None, address: str
    ) -> None:
        app = make_app(module_of("mail", listener("Send", writes)), environment=environment, environments=environments)

        assert [entry.address for entry in app.registry.catalog] == [address]


class TestSchema:
    def app(self, tmp_path: Path, schema: Any) -> MediatorApp:
        return MediatorApp(
            "shop",
            modules=[bank()],
            database=f"sqlite+aiosqlite:///{tmp_path / 'fresh.db'}",
            environment="test",
            schema=schema,
        )

    @pytest.mark.parametrize("schema", ["auto", "create"])
    async def test_the_tables_are_made_once(self, tmp_path: Path, schema: str) -> None:
        for _ in range(2):
            async with self.app(tmp_path, schema) as app:
                assert await rows(app, "outbox") == []

    async def test_verify_names_what_is_missing_and_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError) as caught:
            await self.app(tmp_path, "verify").__aenter__()

        assert "missing: " in str(caught.value)
        assert "table mediator_outbox" in str(caught.value)
        assert 'schema="create"' in str(caught.value)

    async def test_verify_accepts_what_ddl_made(self, tmp_path: Path) -> None:
        script = self.app(tmp_path, "verify").ddl()
        connection = sqlite3.connect(tmp_path / "fresh.db")
        connection.executescript(script)
        connection.close()

        async with self.app(tmp_path, "verify") as app:
            assert await rows(app, "parked") == []

    async def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        async with self.app(tmp_path, "create") as app, app.unit_of_work() as uow:
            await (await uow.session.connection()).execute(text("ALTER TABLE mediator_parked DROP COLUMN traceback"))

        with pytest.raises(SchemaError, match=r"column mediator_parked\.traceback"):
            await self.app(tmp_path, "verify").__aenter__()

    async def test_another_version_is_refused(self, tmp_path: Path) -> None:
        async with self.app(tmp_path, "create") as app, app.unit_of_work() as uow:
            await (await uow.session.connection()).execute(text("UPDATE mediator_meta SET value = '99'"))

        with pytest.raises(SchemaError, match="of version '99', this toolkit needs"):
            await self.app(tmp_path, "auto").__aenter__()

    async def test_ignore_looks_at_nothing(self, tmp_path: Path) -> None:
        async with self.app(tmp_path, "create") as app, app.unit_of_work() as uow:
            await (await uow.session.connection()).execute(text("UPDATE mediator_meta SET value = '99'"))

        async with self.app(tmp_path, "ignore") as app:
            assert await rows(app, "outbox") == []

    async def test_a_prefix_of_ones_own(self, make_app: AppFactory) -> None:
        app = make_app(module_of("mail", listener("Send", writes)), settings=quick_settings(table_prefix="bus_"))
        async with app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()
            async with app.unit_of_work() as uow:
                connection = await uow.session.connection()
                assert await connection.scalar(text("SELECT count(*) FROM bus_inbox")) == 1
                names = await connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
                assert not [name for name in names if name.startswith("mediator_")]
