"""G9: what became of a commit is told as it is: it happened, it did not, or nobody can say.

A proxy before the server cuts the connection at a COMMIT that the server never hears, or has carried out already; or it
holds what is said. The table itself, looked at directly, is the judge. PROMISES_CUTS says how many random cuts there
are on each database (100).
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

import mediator.publishing.unit_of_work
from contracts import IntegrationEvent, event_topic
from mediator import (
    Command,
    CommandHandler,
    IntegrationEventHandler,
    IntegrationEventPublisher,
    MediatorApp,
    MessageContext,
    Module,
    Outgoing,
    RetryPolicy,
)
from mediator.errors import CommitOutcomeUnknownError, PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.operations.cleaning import RetentionSettings
from tests.consuming.notes import eventually
from tests.support import AppFactory, Effect, module_of, quick_settings
from tests.support.looking import comes_true, look
from tests.support.proxy import Proxy, Trap
from tests.support.transports import ScriptedTransport

pytestmark = pytest.mark.databases("postgresql", "psycopg", "mariadb")

CUTS = int(os.environ.get("PROMISES_CUTS") or 100)
LANES = 4
LOST = (DBAPIError, OSError)
"""What a command fails with whose connection was cut, if it is sure that nothing was committed."""
NO_HISTORY = RetentionSettings(sent=timedelta(0))


@event_topic("stamps", domain="registry")
class StampedV1(IntegrationEvent):
    """Something was stamped."""

    name: str


@dataclass(frozen=True)
class Stamp(Command[str]):
    name: str
    delay: timedelta | None = None


class StampHandler(CommandHandler[Stamp, str]):
    def __init__(self, session: AsyncSession, publisher: IntegrationEventPublisher) -> None:
        self._session, self._publisher = session, publisher

    async def handle(self, command: Stamp) -> str:
        self._session.add(Effect(what="stamped", detail=command.name))
        self._publisher.publish(Outgoing(StampedV1(name=command.name), delay=command.delay))
        return command.name


@dataclass(frozen=True)
class StampInSilence(Command[str]):
    name: str


class StampInSilenceHandler(CommandHandler[StampInSilence, str]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, command: StampInSilence) -> str:
        self._session.add(Effect(what="stamped", detail=command.name))
        return command.name


class Archive(IntegrationEventHandler[StampedV1]):
    """Leaves its own mark, so that its commits can be told from the commands'."""

    retry = RetryPolicy.fixed(3, timedelta(0))
    failures = 0

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self._session, self._context = session, context

    async def handle(self, event: StampedV1) -> None:
        self._session.add(Effect(what="archived", detail=f"{event.name} in attempt {self._context.attempt}"))
        await self._session.flush()
        if self._context.attempt <= self.failures:
            raise RuntimeError(f"attempt {self._context.attempt}")


class ArchiveAtLast(Archive):
    failures = 1


MODULE = module_of("registry", Stamp, StampHandler, StampInSilence, StampInSilenceHandler, StampedV1)
ARCHIVE = module_of("archive", Archive)
ARCHIVE_AT_LAST = module_of("archive", ArchiveAtLast)


@pytest_asyncio.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(make_app: AppFactory, proxy: Proxy) -> AppFactory:
    """Makes applications whose every connection leads through the proxy."""

    def make(*others: Module, **options: Any) -> MediatorApp:
        settings = quick_settings(database={"connections": 8, "reading_connections": 1}, **options.pop("changes", {}))
        return make_app(MODULE, *others, database=proxy.url, schema="create", settings=settings, **options)

    return make


async def marks(url: str, what: str = "stamped") -> list[str]:
    """What is in the table."""
    rows = await look(url, f"SELECT detail FROM test_effects WHERE what = '{what}' ORDER BY detail")
    return [detail for (detail,) in rows]


CutAtCommit = Callable[..., Trap]


def before(proxy: Proxy) -> Trap:
    return proxy.cut_before_commit(of="test_effects")


def before_orderly(proxy: Proxy) -> Trap:
    return proxy.cut_before_commit(of="test_effects", reset=False)


def after(proxy: Proxy) -> Trap:
    return proxy.cut_after_commit(of="test_effects")


def after_orderly(proxy: Proxy) -> Trap:
    return proxy.cut_after_commit(of="test_effects", reset=False)


@pytest.mark.parametrize("cut", [before, before_orderly])
async def test_a_commit_that_the_server_never_heard_of_is_told_as_such(
    cut: CutAtCommit, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE) as app:
        trap = cut(proxy)
        with pytest.raises(LOST) as caught:
            await app.mediator.send(Stamp("lost"))
        await trap.happened()

        assert not isinstance(caught.value, TimeoutError)
        assert await marks(database_url) == []

        assert await app.mediator.send(Stamp("kept")) == "kept"
        await app.drained()
        assert await marks(database_url) == ["kept"]
        assert await marks(database_url, "archived") == ["kept in attempt 1"]


@pytest.mark.parametrize("cut", [after, after_orderly])
async def test_a_commit_whose_answer_was_lost_is_found_out(
    cut: CutAtCommit, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE) as app:
        trap = cut(proxy)
        assert await app.mediator.send(Stamp("kept")) == "kept"
        await trap.happened()
        await app.drained()

        assert await marks(database_url) == ["kept"]
        assert await marks(database_url, "archived") == ["kept in attempt 1"]


async def test_a_unit_of_work_by_hand_is_found_out_as_well(
    proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async def work(app: MediatorApp, name: str) -> None:
        async with app.unit_of_work() as uow:
            uow.session.add(Effect(what="stamped", detail=name))
            uow.publish(StampedV1(name=name))

    async with through_proxy() as app:
        after(proxy)
        await work(app, "by hand")
        before(proxy)
        with pytest.raises(LOST):
            await work(app, "lost")

        assert await marks(database_url) == ["by hand"]


async def test_a_commit_that_reaches_the_server_late_is_waited_for_or_prevented(
    proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy() as app:
        proxy.deliver_commit_late(0.1, of="test_effects")
        try:
            told = [await app.mediator.send(Stamp("late"))]
        except LOST:
            told = []
        assert await marks(database_url) == told

        trap = proxy.deliver_commit_late(of="test_effects")
        with pytest.raises(LOST):
            await app.mediator.send(Stamp("too late"))
        trap.release()
        await asyncio.sleep(0.5)
        assert await marks(database_url) == told


@pytest.mark.parametrize("held", ["the commit", "its answer"])
async def test_a_commit_that_nobody_answers_is_given_up_and_found_out(
    held: str, proxy: Proxy, through_proxy: AppFactory, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediator.publishing.unit_of_work, "_COMMIT_SECONDS", 0.5)
    async with through_proxy() as app:
        trap = (proxy.hold_commit if held == "the commit" else proxy.hold_commit_answer)(of="test_effects")
        try:
            told = [await app.mediator.send(Stamp("held"))]
        except LOST:
            told = []
        trap.release()
        await asyncio.sleep(0.5)

        assert await marks(database_url) == told
        assert told == ([] if held == "the commit" else ["held"])


@pytest.mark.parametrize(("cut", "committed"), [(before, []), (after, ["silent"])])
async def test_of_a_command_that_publishes_nothing_nobody_can_say(
    cut: CutAtCommit, committed: list[str], proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy() as app:
        cut(proxy)
        with pytest.raises(CommitOutcomeUnknownError) as caught:
            await app.mediator.send(StampInSilence("silent"))

    assert caught.value.unit_of_work == "StampInSilence"
    assert isinstance(caught.value.__cause__, LOST)
    assert await marks(database_url) == committed


async def test_without_a_history_a_row_that_is_still_there_tells(
    proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(changes={"retention": NO_HISTORY}, roles={"publish"}) as app:
        after(proxy)
        assert await app.mediator.send(Stamp("kept")) == "kept"

        before(proxy)
        with pytest.raises(CommitOutcomeUnknownError):
            await app.mediator.send(Stamp("lost"))

        assert await marks(database_url) == ["kept"]


async def test_without_a_history_nobody_can_say_once_the_row_is_gone(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    settings = quick_settings(retention=NO_HISTORY)
    async with (
        through_proxy(changes={"retention": NO_HISTORY}, roles={"publish"}) as app,
        make_app(MODULE, settings=settings, roles={"relay"}, transport=ScriptedTransport()),
    ):
        sending = await cut_and_kept_away(app, proxy, Stamp("sent"))
        await comes_true(outbox_is_empty(database_url))
        await proxy.accept()

        with pytest.raises(CommitOutcomeUnknownError):
            await sending
        assert await marks(database_url) == ["sent"]


async def test_with_a_history_a_row_that_was_relayed_meanwhile_tells(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    async with (
        through_proxy(roles={"publish"}) as app,
        make_app(MODULE, roles={"relay"}, transport=ScriptedTransport()),
    ):
        sending = await cut_and_kept_away(app, proxy, Stamp("sent"))
        await comes_true(outbox_is_empty(database_url))
        await proxy.accept()

        assert await sending == "sent"


async def test_a_scheduled_row_that_came_due_meanwhile_tells(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    transport = ScriptedTransport()
    transport.may_answer.clear()
    async with (
        through_proxy(roles={"publish"}) as app,
        make_app(MODULE, roles={"relay"}, transport=transport),
    ):
        sending = await cut_and_kept_away(app, proxy, Stamp("sent", delay=timedelta(milliseconds=200)))
        await eventually(lambda: transport.handed_over)
        await proxy.accept()

        assert await sending == "sent"
        transport.may_answer.set()


async def test_of_a_scheduled_row_that_was_cancelled_meanwhile_nobody_can_say(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    async with through_proxy(roles={"publish"}) as app, make_app(MODULE, roles={"publish"}) as other:
        sending = await cut_and_kept_away(app, proxy, Stamp("cancelled", delay=timedelta(hours=1)))
        async with other.unit_of_work() as uow:
            (event_id,) = (await uow.session.scalars(text("SELECT event_id FROM mediator_outbox"))).all()
            assert await uow.cancel(event_id if isinstance(event_id, UUID) else UUID(bytes=event_id))
        await proxy.accept()

        with pytest.raises(CommitOutcomeUnknownError):
            await sending
        assert await marks(database_url) == ["cancelled"]


async def test_with_a_history_that_is_cleaned_at_once_nobody_can_say(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    brief = RetentionSettings(sent=timedelta(milliseconds=1))
    settings = quick_settings(retention=brief)
    async with (
        through_proxy(changes={"retention": brief}, roles={"publish"}) as app,
        make_app(MODULE, settings=settings, roles={"relay"}, transport=ScriptedTransport()) as relaying,
    ):
        sending = await cut_and_kept_away(app, proxy, Stamp("sent"))
        await comes_true(outbox_is_empty(database_url))
        await asyncio.sleep(0.01)
        await relaying.clean()
        await proxy.accept()

        with pytest.raises(CommitOutcomeUnknownError):
            await sending
        assert await marks(database_url) == ["sent"]


async def test_a_row_that_could_not_be_sent_tells(
    proxy: Proxy, through_proxy: AppFactory, make_app: AppFactory, database_url: str
) -> None:
    def refuse(envelope: Envelope) -> Exception:
        return PublishRefusedError("scripted", envelope.topic, "unwanted")

    settings = quick_settings(relay={"poll": timedelta(milliseconds=50), "retry": RetryPolicy.never()})
    async with (
        through_proxy(roles={"publish"}) as app,
        make_app(MODULE, settings=settings, roles={"relay"}, transport=ScriptedTransport(refuse)) as relaying,
    ):
        sending = await cut_and_kept_away(app, proxy, Stamp("dead"))
        await eventually(relaying.dead_letters.list)
        await proxy.accept()

        assert await sending == "dead"


async def cut_and_kept_away(app: MediatorApp, proxy: Proxy, command: Command[str]) -> asyncio.Task[str]:
    """Cut the connection of a command after its commit, and let the process not look at the database for now."""
    # Its connection is in the pool already: new ones are refused.
    async with app.unit_of_work() as uow:
        await uow.session.connection()
    proxy.refuse()
    trap = after(proxy)
    sending = asyncio.create_task(app.mediator.send(command))
    await trap.happened()
    return sending


def outbox_is_empty(url: str) -> Callable[[], Awaitable[bool]]:
    async def is_empty() -> bool:
        return not await look(url, "SELECT 1 FROM mediator_outbox")

    return is_empty


@pytest.mark.parametrize("cut", [before, after])
async def test_a_commit_is_awaited_by_a_task_that_is_cancelled_meanwhile(
    cut: CutAtCommit, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE) as app:
        trap = proxy.hold_commit(of="test_effects") if cut is before else proxy.hold_commit_answer(of="test_effects")
        sending = asyncio.create_task(app.mediator.send(Stamp("kept")))
        await trap.happened()
        for _ in range(3):
            sending.cancel()
            await asyncio.sleep(0.05)
        assert not sending.done()
        trap.release()

        with pytest.raises(asyncio.CancelledError):
            await sending
        await app.drained()
        assert await marks(database_url) == ["kept"]
        assert await marks(database_url, "archived") == ["kept in attempt 1"]


async def test_a_cut_under_a_task_that_is_cancelled_is_found_out_as_well(
    proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE) as app:
        trap = proxy.hold_commit_answer(of="test_effects")
        sending = asyncio.create_task(app.mediator.send(Stamp("kept")))
        await trap.happened()
        sending.cancel()
        proxy.cut()

        with pytest.raises(asyncio.CancelledError):
            await sending
        await comes_true(outbox_is_empty(database_url))
        assert await marks(database_url, "archived") == ["kept in attempt 1"]


@pytest.mark.parametrize("cut", [before, after])
async def test_a_handler_whose_commit_is_cut_burns_no_attempt_and_has_one_effect(
    cut: CutAtCommit, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE) as app:
        trap = cut(proxy)
        await app.publish_in_own_transaction(StampedV1(name="event"))
        await trap.happened()
        await app.drained()

        assert await marks(database_url, "archived") == ["event in attempt 1"]
        assert app.counters.total("failed") == 0
        assert await app.dead_letters.list() == []


@pytest.mark.parametrize("cut", [before, after])
async def test_a_retry_whose_commit_is_cut_burns_no_attempt_and_has_one_effect(
    cut: CutAtCommit, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE_AT_LAST) as app:
        # The first attempt is rolled back: the first commit of an effect is the second attempt's.
        trap = cut(proxy)
        await app.publish_in_own_transaction(StampedV1(name="event"))
        await trap.happened()
        await app.drained()

        assert await marks(database_url, "archived") == ["event in attempt 2"]
        assert app.counters.total("failed") == 1
        assert await app.dead_letters.list() == []


@pytest.mark.parametrize("table", ["mediator_parked", "mediator_inbox"])
@pytest.mark.parametrize("side", ["cut_before_commit", "cut_after_commit"])
async def test_a_cut_while_a_failure_is_recorded_costs_no_second_attempt(
    table: str, side: str, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE_AT_LAST) as app:
        trap: Trap = getattr(proxy, side)(of=f"INTO {table}")
        await app.publish_in_own_transaction(StampedV1(name="event"))
        await trap.happened()
        await app.drained()

        assert await marks(database_url, "archived") == ["event in attempt 2"]
        assert await app.dead_letters.list() == []


@pytest.mark.parametrize("side", ["cut_before_commit", "cut_after_commit"])
@pytest.mark.parametrize("statement", ["UPDATE mediator_parked", "DELETE FROM mediator_parked"])
async def test_a_cut_in_the_life_of_a_retry_costs_no_attempt(
    statement: str, side: str, proxy: Proxy, through_proxy: AppFactory, database_url: str
) -> None:
    async with through_proxy(ARCHIVE_AT_LAST) as app:
        trap: Trap = getattr(proxy, side)(of=statement)
        await app.publish_in_own_transaction(StampedV1(name="event"))
        await trap.happened()
        await app.drained()

        assert await marks(database_url, "archived") == ["event in attempt 2"]
        assert await app.dead_letters.list() == []


async def test_random_cuts_never_lead_to_a_wrong_answer(
    proxy: Proxy, through_proxy: AppFactory, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("PROMISES_SEED") or random.randrange(2**32))
    print(f"PROMISES_SEED={seed}")  # noqa: T201 - shown when the test fails
    record_property("PROMISES_SEED", seed)
    chance = random.Random(seed)
    told: dict[str, bool | None] = {}
    cuts: Counter[str] = Counter()

    async def send(app: MediatorApp, name: str) -> None:
        try:
            told[name] = await app.mediator.send(Stamp(name)) == name
        except CommitOutcomeUnknownError:
            told[name] = None
        except LOST:
            told[name] = False

    async def cut_now_and_then(app: MediatorApp, lane: int) -> None:
        for number in range(CUTS // LANES):
            kind = chance.choice(KINDS)
            trap = kind(proxy, chance)
            attempt = 0
            while trap.times:
                await send(app, f"{lane}.{number:04}.{attempt:02}")
                attempt += 1
            cuts[kind.__name__] += 1

    async with through_proxy(ARCHIVE) as app:
        await asyncio.gather(*(cut_now_and_then(app, lane) for lane in range(LANES)))
        await comes_true(outbox_is_empty(database_url))
        await app.drained(timedelta(seconds=60))

        committed = await marks(database_url)
        assert {name: name in committed for name in told} == told
        assert await marks(database_url, "archived") == [f"{name} in attempt 1" for name in committed]
        assert await app.dead_letters.list() == []
    record_property("cuts", dict(cuts))


def cut_before(proxy: Proxy, chance: random.Random) -> Trap:
    return proxy.cut_before_commit(of="test_effects", reset=chance.random() < 0.5)


def cut_after(proxy: Proxy, chance: random.Random) -> Trap:
    return proxy.cut_after_commit(of="test_effects", reset=chance.random() < 0.5)


def delivered_late(proxy: Proxy, chance: random.Random) -> Trap:
    return proxy.deliver_commit_late(chance.uniform(0, 0.2), of="test_effects")


KINDS = (cut_before, cut_after, delivered_late)
