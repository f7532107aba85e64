"""Publishing past the outbox: at once, without a row, and without a second try."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mediator import ContextPropagation, Outgoing
from mediator.errors import EventRefusedError, PublishRefusedError, RoleError, UsageError
from mediator.messaging.envelope import Envelope
from tests.consuming.notes import NotedV1, listener, rows, writes
from tests.support import AppFactory, effects, module_of
from tests.support.transports import ScriptedTransport


async def test_it_is_handed_to_the_transport_and_nothing_is_stored(make_app: AppFactory) -> None:
    transport = ScriptedTransport()
    async with make_app(module_of("mail"), transport=transport) as app:
        event = NotedV1(account="ada", text="x")
        await app.publish_direct(event, Outgoing(NotedV1(text="y"), headers={"region": "eu"}))

        assert [(one.key, dict(one.headers)) for one in transport.confirmed] == [("ada", {}), ("a", {"region": "eu"})]
        assert transport.confirmed[0].event_id == event.event_id
        assert transport.confirmed[0].correlation_id is not None
        assert await rows(app, "outbox") == []
        assert await rows(app, "sent") == []


async def test_in_process_it_returns_when_the_handlers_have_done_it_once(make_app: AppFactory) -> None:
    event = NotedV1(text="x", correlation_id="c")
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        await app.publish_direct(event)
        assert await effects(app) == [("Send", "x")]

        await app.publish_direct(event)
        await app.publish_in_own_transaction(event)
        await app.drained()
        assert await effects(app) == [("Send", "x")]


async def test_what_the_transport_refuses_is_raised_when_the_others_are_through(make_app: AppFactory) -> None:
    def answer(envelope: Envelope) -> Exception | None:
        return PublishRefusedError("scripted", envelope.topic, "no") if envelope.key in {"a", "b"} else None

    transport = ScriptedTransport(answer)
    async with make_app(module_of("mail"), transport=transport) as app:
        with pytest.raises(PublishRefusedError) as refused:
            await app.publish_direct(*(NotedV1(account=account) for account in "abc"))

        assert refused.value.__notes__ == ["2 of 3 events were not confirmed"]
        assert [envelope.key for envelope in transport.confirmed] == ["c"]
        assert await rows(app, "outbox") == []


async def test_it_passes_the_middleware(make_app: AppFactory) -> None:
    class Shouts(ContextPropagation):
        def publish(self, outgoing: Outgoing[Any], proceed: Any) -> None:
            proceed(Outgoing(outgoing.event, headers={"loud": "yes"}))

    transport = ScriptedTransport()
    async with make_app(module_of("mail"), transport=transport, middleware=[Shouts()]) as app:
        await app.publish_direct(NotedV1())

    assert [dict(one.headers) for one in transport.confirmed] == [{"loud": "yes"}]


async def test_what_only_the_outbox_can_do_is_refused(make_app: AppFactory) -> None:
    transport = ScriptedTransport()
    async with make_app(module_of("mail"), transport=transport) as app:
        for later in (Outgoing(NotedV1(), delay=timedelta(0)), Outgoing(NotedV1(), at=datetime.now(UTC))):
            with pytest.raises(EventRefusedError, match="it is scheduled"):
                await app.publish_direct(NotedV1(), later)
        async with app.unit_of_work():
            with pytest.raises(UsageError, match=r"publish_direct\(\) inside a unit of work"):
                await app.publish_direct(NotedV1())

    assert transport.handed_over == []


async def test_a_process_without_a_transport_says_so(make_app: AppFactory) -> None:
    async with make_app(module_of("mail"), transport=ScriptedTransport(), roles=["publish"]) as app:
        with pytest.raises(RoleError, match=r"publish_direct\(\) needs the role 'relay'"):
            await app.publish_direct(NotedV1())
