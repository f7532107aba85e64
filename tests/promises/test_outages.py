"""The database goes away and comes back: work pauses and resumes by itself, nothing is lost, and no attempt is burnt.

Connections are cut and refused, or left hanging, by a proxy; or the server itself is killed and started again. What
the database asks to repeat (a deadlock, a lock timeout, a serialization failure) is repeated as a whole, and costs no
attempt either.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest
import pytest_asyncio
import structlog
from sqlalchemy import NullPool, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.typing import EventDict

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MediatorApp, MessageContext, RetryPolicy
from mediator.errors import CommitOutcomeUnknownError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from tests.consuming.notes import eventually
from tests.support import AppFactory, Effect, create_tables, module_of, quick_settings
from tests.support.databases import execute
from tests.support.looking import comes_true, look
from tests.support.own_servers import MariaDBServer, OwnServer, PostgreSQLServer
from tests.support.proxy import Proxy
from tests.support.transports import ScriptedTransport

pytestmark = pytest.mark.databases("postgresql", "psycopg", "mariadb")

LOST = (DBAPIError, OSError)
OUTAGE_SECONDS = 3
SETTINGS = quick_settings(database={"connections": 6, "reading_connections": 1})


@event_topic("ticks", domain="clock")
class TickedV1(IntegrationEvent):
    """A clock ticked."""

    number: int = 0


class Count(IntegrationEventHandler[TickedV1]):
    """Every third event fails at first."""

    retry = RetryPolicy.fixed(3, timedelta(milliseconds=50))

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self._session, self._context = session, context

    async def handle(self, event: TickedV1) -> None:
        self._session.add(Effect(what=f"{event.number:06}", detail=f"attempt {self._context.attempt}"))
        await self._session.flush()
        if self._context.attempt == 1 and event.number % 3 == 0:
            raise RuntimeError("at first")


MODULE = module_of("clock", TickedV1, Count)


class Clock:
    """Publishes one event after the other, and remembers what became of each."""

    def __init__(self, app: MediatorApp, url: str) -> None:
        self._app, self._url = app, url
        self.published: list[int] = []
        self.refused: list[int] = []
        self.unknown: list[int] = []

    async def ticks_through(self, outage: Callable[[], Awaitable[None]]) -> None:
        """Tick before, during and after the outage, until everything is counted that can be."""
        ticking = asyncio.create_task(self._tick())
        await self._publishes_more()
        await outage()
        await self._publishes_more()
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        await comes_true(self._is_quiet)

    async def assert_all_are_counted_once(self) -> None:
        """No event is lost or counted twice, and none needed an attempt more than without the outage."""
        counted = await look(self._url, "SELECT what, detail FROM test_effects ORDER BY what")
        numbers = [int(what) for what, _ in counted]
        assert counted == [(f"{one:06}", f"attempt {2 if one % 3 == 0 else 1}") for one in numbers]
        assert sorted(set(numbers) - set(self.unknown)) == self.published
        assert await look(self._url, "SELECT reason FROM mediator_parked") == []

    async def _tick(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                await self._app.publish_in_own_transaction(TickedV1(number=number))
                self.published.append(number)
            except CommitOutcomeUnknownError:
                self.unknown.append(number)
            except LOST:
                self.refused.append(number)
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.01)

    async def _publishes_more(self) -> None:
        wanted = len(self.published) + 25
        await eventually(lambda: len(self.published) >= wanted)

    async def _is_quiet(self) -> bool:
        waiting = "SELECT 1 FROM mediator_outbox UNION ALL SELECT 1 FROM mediator_parked"
        return not await look(self._url, waiting)


@pytest_asyncio.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@contextmanager
def few_words() -> Iterator[list[EventDict]]:
    """What is logged in the block, which is not much: an outage is no reason to fill a disk."""
    logs: list[EventDict] = []
    with structlog.testing.capture_logs() as captured:
        yield logs
    logs.extend(captured)
    told = [entry for entry in logs if entry["log_level"] != "debug" and entry["event"] != "handler.failed"]
    assert len(told) <= 30 * OUTAGE_SECONDS, told
    assert [entry for entry in told if entry["log_level"] in {"error", "critical"}] == []
    assert "Traceback" not in str(told)


async def test_connections_are_cut_and_refused_for_a_while(
    proxy: Proxy, make_app: AppFactory, database_url: str
) -> None:
    async def outage() -> None:
        proxy.refuse()
        proxy.cut()
        await asyncio.sleep(OUTAGE_SECONDS)
        await proxy.accept()

    with few_words():
        async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS) as app:
            clock = Clock(app, database_url)
            await clock.ticks_through(outage)

    assert clock.refused
    await clock.assert_all_are_counted_once()


async def test_every_connection_is_cut_again_and_again(proxy: Proxy, make_app: AppFactory, database_url: str) -> None:
    async def outage() -> None:
        for number in range(15):
            proxy.cut(reset=number % 2 == 0)
            await asyncio.sleep(0.2)

    async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS) as app:
        clock = Clock(app, database_url)
        await clock.ticks_through(outage)

    await clock.assert_all_are_counted_once()


async def test_nothing_is_answered_for_a_while(proxy: Proxy, make_app: AppFactory, database_url: str) -> None:
    async def outage() -> None:
        proxy.hold()
        await asyncio.sleep(OUTAGE_SECONDS)
        proxy.release()

    with few_words():
        async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS) as app:
            clock = Clock(app, database_url)
            await clock.ticks_through(outage)

    await clock.assert_all_are_counted_once()


async def test_nothing_is_answered_and_then_everything_is_cut(
    proxy: Proxy, make_app: AppFactory, database_url: str
) -> None:
    async def outage() -> None:
        proxy.hold()
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        proxy.cut()
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        proxy.release()

    with few_words():
        async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS) as app:
            clock = Clock(app, database_url)
            await clock.ticks_through(outage)

    await clock.assert_all_are_counted_once()


async def test_attempts_of_the_relay_that_end_in_an_outage_are_taken_back(
    proxy: Proxy, make_app: AppFactory, database_url: str
) -> None:
    """While it ramps up, the relay counts before it hands over: what the transport and the database then cannot
    confirm or take back is taken back when the database is there again."""
    broker_is_back = asyncio.Event()

    def answer(_envelope: Envelope) -> Exception | None:
        return None if broker_is_back.is_set() else TransportUnavailableError("scripted", "away as well")

    transport = ScriptedTransport(answer)
    transport.may_answer.clear()
    async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS, transport=transport) as app:
        await app.publish_in_own_transaction(TickedV1())
        await eventually(lambda: transport.handed_over)
        assert await attempts(database_url) == [1]
        proxy.refuse()
        proxy.cut()
        transport.may_answer.set()
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        await proxy.accept()

        async def is_taken_back() -> bool:
            return await attempts(database_url) == [0]

        await comes_true(is_taken_back)
        broker_is_back.set()
        await comes_true(outbox_is_empty(database_url))


async def attempts(url: str) -> list[int]:
    return [number for (number,) in await look(url, "SELECT attempts FROM mediator_outbox")]


def outbox_is_empty(url: str) -> Callable[[], Awaitable[bool]]:
    async def is_empty() -> bool:
        return not await look(url, "SELECT 1 FROM mediator_outbox")

    return is_empty


async def test_a_handler_that_is_at_work_when_the_database_goes_away_begins_again(
    proxy: Proxy, make_app: AppFactory, database_url: str
) -> None:
    runs: list[int] = []
    first_is_inside, may_go_on = asyncio.Event(), asyncio.Event()

    class Work(Count):
        async def handle(self, event: TickedV1) -> None:
            runs.append(self._context.attempt)
            self._session.add(Effect(what="work", detail=f"attempt {self._context.attempt}"))
            await self._session.flush()
            first_is_inside.set()
            await may_go_on.wait()
            await self._session.flush()

    async with make_app(module_of("works", Work), database=proxy.url, schema="create", settings=SETTINGS) as app:
        await app.publish_in_own_transaction(TickedV1())
        await first_is_inside.wait()
        proxy.refuse()
        proxy.cut()
        may_go_on.set()
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        await proxy.accept()
        await comes_true(outbox_is_empty(database_url))

        assert await look(database_url, "SELECT what, detail FROM test_effects") == [("work", "attempt 1")]
        assert runs == [1, 1]
        assert app.counters.total("failed") == 0


async def test_an_application_stops_while_the_database_is_away(
    proxy: Proxy, make_app: AppFactory, database_url: str
) -> None:
    app = make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS)
    async with asyncio.timeout(60), app:
        await app.publish_in_own_transaction(*(TickedV1(number=number) for number in range(1, 10)))
        proxy.refuse()
        proxy.cut()
    await proxy.accept()

    async with app:
        await app.drained()
    counted = await look(database_url, "SELECT what, detail FROM test_effects ORDER BY what")
    assert counted == [(f"{one:06}", f"attempt {2 if one % 3 == 0 else 1}") for one in range(1, 10)]


async def test_drained_waits_for_a_database_that_is_away(proxy: Proxy, make_app: AppFactory) -> None:
    async with make_app(MODULE, database=proxy.url, schema="create", settings=SETTINGS) as app:
        await app.publish_in_own_transaction(TickedV1(number=1))
        proxy.refuse()
        proxy.cut()
        draining = asyncio.create_task(app.drained())
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        await proxy.accept()

        await draining
        assert app.counters.total("handled") == 1


# --- the server itself ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["postgresql", "psycopg", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[tuple[OwnServer, str]]:
    """A server that a test may kill, and the URL of a database on it."""
    kind: type[OwnServer] = MariaDBServer if request.param == "mariadb" else PostgreSQLServer
    with kind() as server:
        server.start()
        execute(server.url(), "CREATE TABLE is_there (yes INTEGER)")
        if isinstance(server, MariaDBServer):
            execute(server.url(), "CREATE DATABASE shop")
            yield server, server.url("shop")
        else:
            yield server, server.url("postgres", "psycopg" if request.param == "psycopg" else "asyncpg")


def app_on(url: str, **options: Any) -> MediatorApp:
    return MediatorApp(
        "shop",
        modules=[MODULE],
        **{"database": url, "environment": "test", "schema": "create", "settings": SETTINGS, **options},
    )


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_server_dies_and_is_started_again(how: str, own_server: tuple[OwnServer, str]) -> None:
    server, url = own_server
    await create_tables(url)

    async def outage() -> None:
        await asyncio.to_thread(server.kill if how == "kill" else server.stop)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(server.start)

    with few_words():
        async with app_on(url) as app:
            clock = Clock(app, url)
            await clock.ticks_through(outage)

    assert clock.refused
    await clock.assert_all_are_counted_once()


@pytest.mark.parametrize("reached", [True, False])
async def test_the_server_dies_in_the_middle_of_a_commit(reached: bool, own_server: tuple[OwnServer, str]) -> None:
    server, url = own_server
    await create_tables(url)
    async with Proxy(url) as proxy, app_on(proxy.url, roles={"publish"}) as app:
        trap = proxy.hold_commit_answer(of="test_effects") if reached else proxy.hold_commit(of="test_effects")
        working = asyncio.create_task(work(app))
        await trap.happened()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        trap.release()
        proxy.cut()
        told = (await asyncio.gather(working, return_exceptions=True))[0]

    effects = await look(url, "SELECT what FROM test_effects")
    assert effects == ([("done",)] if reached else [])
    assert told is None if reached else isinstance(told, LOST)


async def work(app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        uow.session.add(Effect(what="done"))
        uow.publish(TickedV1(number=1))


async def test_nobody_is_ended_who_has_got_the_number_of_a_session_that_died_with_the_server() -> None:
    with MariaDBServer() as server:
        server.start()
        execute(server.url(), "CREATE DATABASE shop")
        url = server.url("shop")
        await create_tables(url)
        async with Proxy(url) as proxy, app_on(proxy.url, roles={"publish"}) as app:
            async with app.unit_of_work() as uow:
                connection = await uow.session.connection()
                number = (await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one()
            # MySQL tells its uptime in whole seconds: of a session younger than that nobody knows which start it is of.
            await asyncio.sleep(2.5)
            trap = proxy.hold_commit(of="test_effects")
            working = asyncio.create_task(work(app))
            await trap.happened()
            proxy.refuse()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            async with bystander(url, number) as connection:
                proxy.cut()
                await proxy.accept()
                with pytest.raises(LOST):
                    await working

                assert (await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one() == number


@asynccontextmanager
async def bystander(url: str, number: int) -> AsyncIterator[AsyncConnection]:
    """A connection that the server knows by this number."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with AsyncExitStack() as stack:
        while True:
            connection = await stack.enter_async_context(engine.connect())
            found = (await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one()
            assert found <= number, "the number is taken already"
            if found == number:
                yield connection
                return


# --- what the database asks to repeat ---------------------------------------------------------------------------------


class Trouble(Count):
    """Writes, then does what the test wants, in whatever attempt this is."""

    runs: ClassVar[list[int]]
    failures: ClassVar[int]
    meets: ClassVar[Callable[[AsyncConnection, int], Awaitable[None]]]

    async def handle(self, event: TickedV1) -> None:
        attempt = self._context.attempt
        self.runs.append(attempt)
        if attempt <= self.failures:
            raise RuntimeError("an ordinary failure")
        self._session.add(Effect(what="done", detail=f"attempt {attempt}"))
        await self._session.flush()
        await type(self).meets(await self._session.connection(), self.runs.count(attempt))


@dataclass
class Repeated:
    """An application with one handler that meets trouble."""

    make_app: AppFactory
    url: str
    failures: int

    async def when(self, meets: Callable[[AsyncConnection, int], Awaitable[None]]) -> None:
        """Handle one event, whose handler repeats its whole transaction until the trouble is over."""
        attempt = self.failures + 1
        runs: list[int] = []
        members = {"runs": runs, "failures": self.failures, "meets": staticmethod(meets)}
        handler = type("Meet", (Trouble,), members)
        with structlog.testing.capture_logs() as logs:
            async with self.make_app(module_of("troubles", handler), schema="create", settings=SETTINGS) as app:
                await app.publish_in_own_transaction(TickedV1())
                await app.drained()

                assert app.counters.total("failed") == self.failures
        assert runs.count(attempt) >= 2
        assert set(runs) == set(range(1, attempt + 1))
        assert await look(self.url, "SELECT what, detail FROM test_effects") == [("done", f"attempt {attempt}")]
        assert await look(self.url, "SELECT n FROM things ORDER BY id") == [(1,), (1,)]
        assert [entry for entry in logs if entry["log_level"] == "error"] == []


@pytest.fixture(params=[0, 1])
def repeated(request: pytest.FixtureRequest, make_app: AppFactory, database_url: str) -> Repeated:
    """In the first attempt, and in a retry."""
    execute(database_url, "CREATE TABLE things (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
    execute(database_url, "INSERT INTO things VALUES (1, 0), (2, 0)")
    return Repeated(make_app, database_url, request.param)


def count_up(number: int) -> TextClause:
    return text(f"UPDATE things SET n = n + 1 WHERE id = {number}")


@asynccontextmanager
async def opponent(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction beside the application's, which is rolled back in the end."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()


async def test_a_deadlock_repeats_the_whole_transaction(repeated: Repeated, database_url: str) -> None:
    is_mysql = "asyncmy" in database_url

    async def meets(connection: AsyncConnection, run: int) -> None:
        if run > 1:
            await connection.execute(count_up(1))
            await connection.execute(count_up(2))
            return
        async with opponent(database_url) as other:
            # The handler's transaction shall be the victim: the lighter one on MariaDB, who looks first on PostgreSQL.
            heavy = text("INSERT INTO things SELECT seq, 0 FROM seq_10_to_500")
            await other.execute(heavy if is_mysql else text("SET LOCAL deadlock_timeout = '60s'"))
            await connection.execute(count_up(1))
            await other.execute(count_up(2))
            waiting = asyncio.create_task(other.execute(count_up(1)))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            try:
                await connection.execute(count_up(2))
            finally:
                # It goes on when the handler has been rolled back, which is not before this has ended.
                waiting.cancel()
                await asyncio.wait([waiting])

    await repeated.when(meets)


async def test_a_lock_timeout_repeats_the_whole_transaction(repeated: Repeated, database_url: str) -> None:
    impatient = (
        "SET SESSION innodb_lock_wait_timeout = 1" if "asyncmy" in database_url else "SET LOCAL lock_timeout = '100ms'"
    )

    async def meets(connection: AsyncConnection, run: int) -> None:
        await connection.execute(text(impatient))
        if run > 2:
            await connection.execute(count_up(1))
            await connection.execute(count_up(2))
            return
        async with opponent(database_url) as other:
            await other.execute(count_up(2))
            await connection.execute(count_up(1))
            await connection.execute(count_up(2))

    await repeated.when(meets)


@pytest.mark.databases("postgresql", "psycopg")
async def test_a_serialization_failure_repeats_the_whole_transaction(repeated: Repeated) -> None:
    conflict = "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'; END $$"

    async def meets(connection: AsyncConnection, run: int) -> None:
        await connection.execute(count_up(1))
        if run <= 2:
            await connection.execute(text(conflict))
        await connection.execute(count_up(2))

    await repeated.when(meets)


@pytest.mark.databases("postgresql", "psycopg")
async def test_a_serialization_failure_at_the_commit_repeats_the_whole_transaction(
    repeated: Repeated, database_url: str
) -> None:
    execute(database_url, "CREATE SEQUENCE commits")
    execute(
        database_url,
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('commits') <= 2 THEN"
        " RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'; END IF; RETURN NULL; END $$",
    )
    execute(
        database_url,
        "CREATE CONSTRAINT TRIGGER conflicts AFTER UPDATE ON things DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION conflict()",
    )

    async def meets(connection: AsyncConnection, run: int) -> None:
        await connection.execute(count_up(1))
        await connection.execute(count_up(2))

    await repeated.when(meets)


async def test_a_deadlock_on_an_engine_of_the_handler_s_own_is_the_handler_s_failure(
    make_app: AppFactory, database_url: str
) -> None:
    conflict = (
        "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
        if "asyncmy" in database_url
        else "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = 'deadlock_detected'; END $$"
    )

    class Foreign(Count):
        async def handle(self, event: TickedV1) -> None:
            async with opponent(database_url) as other:
                await other.execute(text(conflict))

    async with make_app(module_of("troubles", Foreign), schema="create", settings=SETTINGS) as app:
        await app.publish_in_own_transaction(TickedV1())
        await app.drained()

        assert [letter.attempts for letter in await app.dead_letters.list()] == [3]
