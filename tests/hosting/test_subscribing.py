"""A running application takes handlers and topics on, with the checks and the promises that the others have."""

import asyncio
from typing import Any

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, Outgoing, WiringError
from mediator.errors import NotRunningError, RoleError, SettingsError, TransportUnavailableError, UsageError
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener, rows, writes
from tests.support import AppFactory, effects, module_of
from tests.support.transports import ScriptedTransport


def late(name: str, react: Any, *events: Any, **attributes: Any) -> type[IntegrationEventHandler[Any]]:
    """A handler that stands in no module's package."""
    handler = listener(name, react, *events, **attributes)
    handler.__module__ = __name__
    return handler


class TestHandlers:
    @pytest.mark.every_database
    async def test_a_class_handles_from_now_on(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            await app.publish_in_own_transaction(NotedV1(text="before"))
            await app.drained()
            await app.subscribe(late("Keep", writes), module="mail")
            await app.publish_in_own_transaction(NotedV1(text="after"))
            await app.drained()

            assert sorted(await effects(app)) == [("Keep", "after"), ("Send", "after"), ("Send", "before")]
            assert [entry.id for entry in app.registry.subscribers] == ["mail.send", "mail.keep"]
            assert "  handler mail.keep <- NotedV1 (test.bank.public.notes.v1)" in app.describe().splitlines()

    @pytest.mark.parametrize("broadcast", [False, True])
    async def test_a_module_without_handlers_gets_its_first(self, make_app: AppFactory, broadcast: bool) -> None:
        async with make_app(module_of("mail", NotedV1)) as app:
            await app.subscribe(late("Keep", writes, broadcast=broadcast), module="mail")
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert await effects(app) == [("Keep", "x")]

    async def test_a_broadcast_joins_a_module_that_has_other_handlers(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            await app.subscribe(late("Everywhere", writes, broadcast=True))
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert sorted(await effects(app)) == [("Everywhere", "x"), ("Send", "x")]
            assert {row.subscriber_id for row in await rows(app, "inbox")} == {"mail.everywhere@main", "mail.send"}

    @pytest.mark.every_database
    async def test_it_has_retries_and_dead_letters(self, make_app: AppFactory) -> None:
        attempts = list[str]()

        def fails_once(handler: Any, event: NotedV1) -> None:
            attempts.append(event.text)
            if attempts.count(event.text) < 2 or event.text == "never":
                raise LookupError("not yet")
            writes(handler, event)

        async with make_app(module_of("mail", NotedV1)) as app:
            await app.subscribe(late("Keep", fails_once, retry=at_once(3)))
            await app.publish_in_own_transaction(NotedV1(text="later"), NotedV1(text="never"))
            await app.drained()

            assert await effects(app) == [("Keep", "later")]
            assert sorted(attempts) == ["later"] * 2 + ["never"] * 3
            (letter,) = await app.dead_letters.list(subscriber_id="mail.keep")
            assert (letter.attempts, letter.error) == (3, "not yet")

    @pytest.mark.parametrize("later", [("Keep", ()), ("KeepNote", ("mail.keep",))], ids=["same", "renamed"])
    async def test_what_waits_for_it_from_an_earlier_run_goes_on(
        self, make_app: AppFactory, later: tuple[str, tuple[str, ...]]
    ) -> None:
        module = module_of("mail", NotedV1)
        async with make_app(module) as app:
            await app.subscribe(late("Keep", writes))
            app.pause("mail.keep")
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

        name, aliases = later
        async with make_app(module) as app:
            await app.subscribe(late(name, writes, aliases=aliases))
            await app.drained()

            assert await effects(app) == [(name, "x")]

    async def test_it_rests_when_its_module_does(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            app.pause("mail")
            await app.subscribe(late("Keep", writes))

            assert app.paused == {"mail.send", "mail.keep"}
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()
            assert await effects(app) == []

            app.resume("mail")
            await app.drained()
            assert sorted(await effects(app)) == [("Keep", "x"), ("Send", "x")]

    async def test_several_at_once(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", NotedV1), module_of("post", RemarkedV1)) as app:
            await asyncio.gather(
                *(
                    app.subscribe(late(f"Keep{number}", writes), module=module)
                    for number in range(5)
                    for module in ("mail", "post")
                )
            )
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert len(await effects(app)) == 10

    async def test_the_application_keeps_it_when_it_starts_again(self, make_app: AppFactory) -> None:
        app = make_app(module_of("mail", NotedV1))
        async with app:
            await app.subscribe(late("Keep", writes))
        async with app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert await effects(app) == [("Keep", "x")]


class TestTopics:
    @pytest.mark.every_database
    async def test_a_known_handler_listens_to_more(self, make_app: AppFactory) -> None:
        send = listener("Send", writes)
        async with make_app(module_of("mail", send)) as app:
            await app.subscribe("mail.send", "test.else.#")
            await app.subscribe(send, "{environment}.more")
            for topic in (None, "test.else.where", "test.more", "test.other"):
                await app.publish_in_own_transaction(Outgoing(NotedV1(text=str(topic)), topic=topic))
            await app.drained()

            assert sorted(await effects(app)) == [("Send", "None"), ("Send", "test.else.where"), ("Send", "test.more")]
            assert app.describe().splitlines()[-1] == (
                "  handler mail.send <- NotedV1 from test.bank.public.notes.v1, test.else.#, test.more"
            )

    async def test_a_new_handler_may_be_given_topics_in_place_of_its_own(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", NotedV1)) as app:
            await app.subscribe(late("Audit", writes, IntegrationEvent), "test.else.#")
            await app.publish_in_own_transaction(NotedV1(text="1"), Outgoing(NotedV1(text="2"), topic="test.else"))
            await app.drained()

            assert await effects(app) == [("Audit", "2")]


class Unsteady(MemoryTransport):
    """Loses the connection to its broker once, when a group wants more."""

    has_failed = False

    async def provision(self, topics: Any, groups: Any, *, create: bool = True) -> None:
        if any(len(listened) > 1 for listened in groups.values()) and not self.has_failed:
            self.has_failed = True
            raise TransportUnavailableError(self.name, "gone")


class TestRefusals:
    async def test_what_failed_half_way_may_be_repeated(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes), RemarkedV1), transport=Unsteady()) as app:
            keep = late("Keep", writes, RemarkedV1)
            with pytest.raises(TransportUnavailableError):
                await app.subscribe(keep)
            await app.subscribe(keep)
            await app.publish_in_own_transaction(RemarkedV1(text="x"))
            await app.drained()

            assert await effects(app) == [("Keep", "x")]

    async def test_every_fault_of_the_wiring_is_named_and_nothing_is_changed(self, make_app: AppFactory) -> None:
        class Unbound:
            def __init__(self, url: str) -> None: ...

        def construct(self: Any, needed: Unbound) -> None: ...

        @event_topic("unknown", domain="bank")
        class UnknownV1(IntegrationEvent):
            pass

        wrong = {
            "attribute": late("Keep", writes, timeout=3),
            "subscriber id": late("Keep", writes, subscriber_id="mail.send"),
            "topic": late("Keep", writes, topics=("a*",)),
            "contract": late("Keep", writes, UnknownV1),
            "missing binding": type("Keep", (listener("Base", writes),), {"__init__": construct}),
            "signature": int,
        }
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            for kind, handler in wrong.items():
                with pytest.raises(WiringError) as caught:
                    await app.subscribe(handler)
                assert [fault.kind for fault in caught.value.faults] == [kind]
            with pytest.raises(WiringError, match="empty segment"):
                await app.subscribe("mail.send", "test..x")

            assert [(entry.id, entry.topics) for entry in app.registry.subscribers] == [("mail.send", ())]

    async def test_names_that_nobody_has(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes))) as app:
            with pytest.raises(SettingsError, match=r"this application has mail\.send"):
                await app.subscribe("mail.sent", "test.#")
            with pytest.raises(SettingsError, match="this application has mail"):
                await app.subscribe(late("Keep", writes), module="post")

    async def test_where_it_cannot_be_called(self, make_app: AppFactory) -> None:
        app = make_app(module_of("mail", listener("Send", writes)))
        with pytest.raises(NotRunningError):
            await app.subscribe("mail.send", "test.#")
        async with app, app.unit_of_work():
            with pytest.raises(UsageError, match="inside a unit of work"):
                await app.subscribe("mail.send", "test.#")
        async with make_app(module_of("mail"), roles={"publish"}) as other:
            with pytest.raises(RoleError, match="'consume'"):
                await other.subscribe(late("Keep", writes))

    async def test_a_transport_without_patterns(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Send", writes)), transport=ScriptedTransport()) as app:
            with pytest.raises(SettingsError, match="takes no patterns"):
                await app.subscribe("mail.send", "test.#")

            await app.subscribe("mail.send", "test.elsewhere")
