"""Local events never go to the broker; the others do, and neither waits for the other."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, cast

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import Outgoing
from mediator.errors import PublishRefusedError, SettingsError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Capabilities
from mediator.transports import LocalBeside
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.promises.arrivals import envelope_of
from tests.support import AppFactory, effects, module_of, quick_settings
from tests.support.transports import ScriptedTransport


@event_topic("whispers", domain="bank", internal=True, local=True)
class WhisperedV1(IntegrationEvent):
    """Somebody said something that is nobody else's business."""

    text: str = ""


@pytest.mark.every_database
async def test_they_are_handled_and_the_broker_never_sees_them(make_app: AppFactory) -> None:
    broker = ScriptedTransport()
    module = module_of("mail", listener("Hear", writes, WhisperedV1), NotedV1)
    async with make_app(module, transport=broker) as app:
        await app.publish_in_own_transaction(WhisperedV1(text="1"), NotedV1(text="2"), WhisperedV1(text="3"))
        await app.drained()

        assert [envelope.type for envelope in broker.handed_over] == ["bank.noted"]
        assert sorted(await effects(app)) == [("Hear", "1"), ("Hear", "3")]
        assert await rows(app, "outbox") == []


async def test_one_handler_may_take_both(make_app: AppFactory) -> None:
    keep = listener("Keep", writes, IntegrationEvent, topics=("test.bank.#",))

    class Broker(ScriptedTransport):
        capabilities = Capabilities(durable=True, ordered=True, wildcards=True)

    async with make_app(module_of("mail", keep, WhisperedV1, NotedV1), transport=Broker()) as app:
        await app.publish_in_own_transaction(WhisperedV1(text="local"), NotedV1(text="away"))
        await app.drained()

        assert await effects(app) == [("Keep", "local")]


async def test_they_may_be_published_past_the_outbox_too(make_app: AppFactory) -> None:
    broker = ScriptedTransport()
    async with make_app(module_of("mail", listener("Hear", writes, WhisperedV1)), transport=broker) as app:
        await app.publish_direct(WhisperedV1(text="x"))

        assert await effects(app) == [("Hear", "x")]
        assert broker.handed_over == []


async def test_a_failing_handler_gets_its_retries(make_app: AppFactory) -> None:
    tries = list[str]()

    def fails_once(handler: object, event: WhisperedV1) -> None:
        tries.append(event.text)
        if len(tries) == 1:
            raise RuntimeError("not yet")
        writes(handler, event)

    hear = listener("Hear", fails_once, WhisperedV1, retry=at_once())
    async with make_app(module_of("mail", hear), transport=ScriptedTransport()) as app:
        await app.publish_in_own_transaction(Outgoing(WhisperedV1(text="x"), delay=timedelta(milliseconds=10)))
        await app.drained()

        assert tries == ["x", "x"]
        assert await effects(app) == [("Hear", "x")]


async def test_what_was_not_handled_when_the_application_stopped_is_handled_after_the_next_start(
    make_app: AppFactory,
) -> None:
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def hangs(handler: object, event: WhisperedV1) -> None:
        begun.set()
        await may_end.wait()
        writes(handler, event)

    hear = listener("Hear", hangs, WhisperedV1)
    app = make_app(
        module_of("mail", hear), transport=ScriptedTransport(), settings=quick_settings(drain_on_stop=timedelta(0))
    )
    async with app:
        await app.publish_in_own_transaction(WhisperedV1(text="x"))
        await begun.wait()
    may_end.set()
    async with app:
        await app.drained()
        assert await effects(app) == [("Hear", "x")]


@pytest.mark.parametrize("role", ["relay", "consume"])
async def test_whoever_relays_them_has_to_consume_them(make_app: AppFactory, role: str) -> None:
    app = make_app(module_of("mail", WhisperedV1), transport=ScriptedTransport(), roles={role})

    with pytest.raises(SettingsError, match="local events"):
        await app.__aenter__()


async def test_the_broker_is_not_made_ready_for_them(make_app: AppFactory) -> None:
    ready = list[str]()

    class Broker(ScriptedTransport):
        async def provision(self, topics: Any, groups: Any, *, create: bool = True) -> None:
            ready.extend(topics)

    async with make_app(module_of("mail", listener("Hear", writes, WhisperedV1), NotedV1), transport=Broker()):
        assert ready == ["test.bank.public.notes.v1"]


class TestLocalBeside:
    """Whatever happens on one way, the outcomes of the other arrive."""

    local, away = envelope_of(WhisperedV1()), envelope_of(NotedV1())

    def beside(self, broker: ScriptedTransport, local: ScriptedTransport) -> LocalBeside:
        return LocalBeside(broker, local, lambda envelope: envelope is self.local)

    @pytest.mark.parametrize("slow", ["broker", "local"])
    async def test_a_slow_one_holds_nothing_back(self, slow: str) -> None:
        ways = {"broker": ScriptedTransport(), "local": ScriptedTransport()}
        ways[slow].may_answer.clear()
        publishing = self.beside(**ways).publish([self.local, self.away])

        first = await anext(publishing)
        ways[slow].may_answer.set()
        second = await anext(publishing)

        assert first == (self.away if slow == "local" else self.local, None)
        assert second == (self.local if slow == "local" else self.away, None)
        with pytest.raises(StopAsyncIteration):
            await anext(publishing)

    async def test_an_outage_of_the_broker_is_only_the_brokers(self) -> None:
        gone = TransportUnavailableError("scripted", "gone")
        ways = self.beside(ScriptedTransport(lambda _: gone), ScriptedTransport())

        outcomes = {envelope.type: error async for envelope, error in ways.publish([self.away, self.local])}

        assert outcomes == {self.away.type: gone, self.local.type: None}

    async def test_a_transport_that_breaks_off_is_told_of(self) -> None:
        def breaks(envelope: Envelope) -> Exception | None:
            raise PublishRefusedError("scripted", envelope.topic, "broken")

        with pytest.raises(PublishRefusedError, match="broken"):
            async for _ in self.beside(ScriptedTransport(breaks), ScriptedTransport()).publish([self.away]):
                pass

    async def test_nothing_is_left_behind_when_nobody_waits_any_more(self) -> None:
        local = ScriptedTransport()
        local.may_answer.clear()
        publishing = self.beside(ScriptedTransport(), local).publish([self.local, self.away])
        await anext(publishing)
        tasks = len(asyncio.all_tasks())

        await cast(AsyncGenerator[object], publishing).aclose()

        await eventually(lambda: len(asyncio.all_tasks()) == tasks - 1)
        assert local.confirmed == []
