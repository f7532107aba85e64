"""Roles: what a process was not started for, it does not do, and says so when it is asked."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    Command,
    CommandHandler,
    IntegrationEventPublisher,
    Mediator,
    MediatorApp,
    Query,
    QueryHandler,
    StreamQuery,
    StreamQueryHandler,
)
from mediator.errors import RoleError, SettingsError
from mediator.messaging.transport import Capabilities
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, writes
from tests.storage.rows import execute, stored
from tests.support import AppFactory, Effect, effects, module_of, quick_settings
from tests.support.transports import ScriptedTransport

A_FEW_POLLS = 0.3
PUBLISH, RELAY, CONSUME = {"publish"}, {"relay"}, {"consume"}
WORK = RELAY | CONSUME


def named(value: object) -> str:
    return "-".join(sorted(value)) if isinstance(value, set) else str(value)


class Broker(MemoryTransport):
    """A broker that several processes use: what one relays, another consumes."""

    name = "broker"
    capabilities = Capabilities(durable=True, ordered=True)

    async def close(self) -> None:
        """The others go on."""


class Unreachable(ScriptedTransport):
    """A broker that is away."""

    async def open(self) -> None:
        raise OSError("nobody there")


@dataclass(frozen=True)
class Note(Command[None]):
    text: str


class NoteHandler(CommandHandler[Note, None]):
    def __init__(self, session: AsyncSession, publisher: IntegrationEventPublisher) -> None:
        self.session, self.publisher = session, publisher

    async def handle(self, command: Note) -> None:
        self.session.add(Effect(what="Note", detail=command.text))
        self.publisher.publish(RemarkedV1(text=command.text))


@dataclass(frozen=True)
class Count(Query[int]):
    pass


class CountHandler(QueryHandler[Count, int]):
    async def handle(self, query: Count) -> int:
        return 1


@dataclass(frozen=True)
class Numbers(StreamQuery[int]):
    pass


class NumbersHandler(StreamQueryHandler[Numbers, int]):
    async def handle(self, query: Numbers) -> AsyncGenerator[int, None]:
        yield 1


BANK = (Note, NoteHandler, Count, CountHandler, Numbers, NumbersHandler)


def bank(*more: type) -> Any:
    return module_of("bank", *BANK, *more)


async def outbox_of(url: str) -> int:
    return len(await stored(url, "outbox"))


async def first_number(mediator: Mediator) -> int:
    async for number in mediator.stream(Numbers()):
        return number
    return 0


async def nothing(app: MediatorApp) -> None:
    async with app.unit_of_work():
        pass


@pytest.mark.every_database
async def test_an_event_goes_from_one_process_to_the_other(make_app: AppFactory, database_url: str) -> None:
    module = bank(listener("Send", writes))
    async with make_app(module, roles=PUBLISH) as web, make_app(module, roles=WORK) as worker:
        await web.mediator.send(Note("1"))
        await web.publish_in_own_transaction(NotedV1(text="2"))
        await web.drained()

        assert await effects(web) == [("Note", "1"), ("Send", "2")]
        assert worker.counters.total("handled", "bank.send") == 1
        assert web.counters.total("handled") == 0
    assert await outbox_of(database_url) == 0


async def test_a_process_that_only_publishes_does_not_relay(make_app: AppFactory, database_url: str) -> None:
    broker = Unreachable()
    async with make_app(bank(listener("Send", writes)), roles=PUBLISH, transport=broker) as web:
        await web.publish_in_own_transaction(NotedV1())
        await asyncio.sleep(A_FEW_POLLS)

    assert broker.batches == []
    assert await outbox_of(database_url) == 1


async def test_a_process_that_only_relays_handles_nothing(make_app: AppFactory, database_url: str) -> None:
    module, broker = bank(listener("Send", writes)), ScriptedTransport()
    async with make_app(module, roles=PUBLISH) as web, make_app(module, roles=RELAY, transport=broker) as relay:
        await web.publish_in_own_transaction(NotedV1())
        await relay.drained()

        assert len(broker.confirmed) == 1
        assert relay.counters.total("handled") == 0
        assert await effects(web) == []
    assert await stored(database_url, "inbox") == []


async def test_a_process_that_only_consumes_relays_nothing(make_app: AppFactory, database_url: str) -> None:
    module, broker = bank(listener("Send", writes)), Broker()
    async with make_app(module, roles=PUBLISH) as web, make_app(module, roles=CONSUME, transport=broker) as consumer:
        await web.publish_in_own_transaction(NotedV1(text="1"))
        await asyncio.sleep(A_FEW_POLLS)
        assert await outbox_of(database_url) == 1

        async with make_app(module, roles=RELAY, transport=broker) as relay:
            assert [group.members for group in broker._groups.values()] == [1]
            await web.drained()

            assert await effects(web) == [("Send", "1")]
            assert consumer.counters.total("handled", "bank.send") == 1
            assert relay.counters.total("handled") == 0


@pytest.mark.parametrize("roles", [PUBLISH, RELAY, PUBLISH | RELAY], ids=named)
async def test_retries_wait_for_a_process_that_consumes(
    make_app: AppFactory, database_url: str, roles: set[str]
) -> None:
    broken = True

    def react(handler: Any, event: NotedV1) -> None:
        writes(handler, event)
        if broken:
            raise LookupError

    module, again = bank(listener("Send", react, retry=at_once(1))), bank(listener("Send", react))
    async with make_app(module) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await app.drained()
    broken = False
    async with make_app(again, roles=roles, transport=ScriptedTransport()) as other:
        (letter,) = await other.dead_letters.list()
        await other.dead_letters.replay(letter.position)
        await asyncio.sleep(A_FEW_POLLS)
        assert [row["status"] for row in await stored(database_url, "parked")] == ["retry"]

        async with make_app(again, roles=CONSUME, transport=Broker()):
            await other.drained()
    async with make_app(again) as app:
        assert await effects(app) == [("Send", "1")]


@pytest.mark.parametrize(("roles", "left"), [(PUBLISH, 1), (CONSUME, 1), (RELAY, 0)], ids=named)
async def test_who_relays_cleans_up(make_app: AppFactory, database_url: str, roles: set[str], left: int) -> None:
    settings = quick_settings(retention={"every": timedelta(milliseconds=50)})
    async with make_app(bank()) as app:
        await app.publish_in_own_transaction(NotedV1())
        await app.drained()
    async with make_app(bank(), roles=roles, transport=Broker(), settings=settings) as app:
        await asyncio.to_thread(execute, database_url, "UPDATE mediator_sent SET sent_at = 1")
        await asyncio.sleep(A_FEW_POLLS)
        assert len(await stored(database_url, "sent")) == left

        assert await app.clean() == left


BEGINNINGS: dict[str, Callable[[MediatorApp], Awaitable[object]]] = {
    "Note": lambda app: app.mediator.send(Note("1")),
    "Count": lambda app: app.mediator.send(Count()),
    "Numbers": lambda app: first_number(app.mediator),
    "unit_of_work()": nothing,
    "publish_in_own_transaction()": lambda app: app.publish_in_own_transaction(NotedV1()),
}


@pytest.mark.parametrize("roles", [RELAY, CONSUME, WORK], ids=named)
@pytest.mark.parametrize("what", BEGINNINGS)
async def test_who_does_not_publish_begins_no_unit_of_work(
    make_app: AppFactory, database_url: str, roles: set[str], what: str
) -> None:
    async with make_app(bank(), roles=roles, transport=Broker()) as app:
        with pytest.raises(RoleError) as refused:
            await BEGINNINGS[what](app)

    assert refused.value.role == "publish"
    assert refused.value.roles == tuple(sorted(roles))
    assert f"this process has {', '.join(sorted(roles))}: add it to MediatorApp(roles=...)" in str(refused.value)
    assert what.startswith("publish_in") or refused.value.what == what
    assert await outbox_of(database_url) == 0


async def test_handlers_send_commands_and_publish_wherever_they_run(make_app: AppFactory, database_url: str) -> None:
    class Sends(listener("Sends", lambda *_: None)):  # type: ignore[misc]
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, event: NotedV1) -> None:
            await self.mediator.send(Note(event.text))
            assert await self.mediator.send(Count()) == 1
            assert await first_number(self.mediator) == 1

    module = bank(Sends, listener("Keep", writes, RemarkedV1))
    async with make_app(module, roles=PUBLISH) as web, make_app(module, roles=WORK) as worker:
        await web.publish_in_own_transaction(NotedV1(text="1"))
        await worker.drained()

        assert await effects(web) == [("Note", "1"), ("Keep", "1")]


async def test_operations_work_in_every_process(make_app: AppFactory) -> None:
    broken = True

    def react(handler: Any, event: NotedV1) -> None:
        writes(handler, event)
        if broken:
            raise LookupError

    module = bank(listener("Send", react, retry=at_once(1)))
    async with make_app(module, roles=PUBLISH) as web, make_app(module, roles=WORK) as worker:
        await web.publish_in_own_transaction(NotedV1(text="1", correlation_id="request-7"))
        await web.drained()
        for app in (web, worker):
            assert len(await app.lineage("request-7")) == 1
            assert await app.clean() == 0
        broken = False
        (letter,) = await web.dead_letters.list()
        await web.dead_letters.replay(letter.position)
        await web.drained()

        assert await effects(web) == [("Send", "1")]
        assert await worker.dead_letters.list() == []


@pytest.mark.parametrize("roles", [RELAY, CONSUME, PUBLISH | RELAY, PUBLISH | CONSUME], ids=named)
async def test_in_process_whoever_relays_consumes(make_app: AppFactory, roles: set[str]) -> None:
    with pytest.raises(SettingsError, match="'memory' delivers within the process: give it both relay and consume"):
        async with make_app(bank(), roles=roles):
            pass


@pytest.mark.parametrize(
    "roles",
    [
        (),
        None,
        "publish",
        b"publish",
        ["relays"],
        ["publish", "consumer"],
        ["Publish"],
        {""},
        ["publish,relay"],
        [1],
        5,
        [["publish"]],
    ],
    ids=repr,
)
def test_roles_that_there_are_not_are_refused(make_app: AppFactory, roles: Any) -> None:
    with pytest.raises(SettingsError, match="list one or more of publish, relay, consume") as refused:
        make_app(bank(), roles=roles)

    assert (refused.value.setting, refused.value.value) == ("roles", roles)


@pytest.mark.parametrize("roles", [["publish", "publish"], ("publish",), frozenset(PUBLISH)], ids=repr)
async def test_any_collection_of_roles_will_do(make_app: AppFactory, roles: Any) -> None:
    async with make_app(bank(), roles=roles) as app:
        assert await app.mediator.send(Count()) == 1


async def test_a_relay_that_comes_later_finds_what_was_left(make_app: AppFactory, database_url: str) -> None:
    module = bank(listener("Send", writes))
    async with make_app(module, roles=PUBLISH) as web:
        await web.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(3)))
    async with make_app(module, roles=WORK):
        await eventually(lambda: no_rows(database_url))
    async with make_app(module, roles=PUBLISH) as web:
        assert await effects(web) == [("Send", str(number)) for number in range(3)]


async def no_rows(url: str) -> bool:
    return await outbox_of(url) == 0
