"""A handler listens to the topics that it names, by address or by pattern, wherever its events were published to."""

from typing import Any

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import Outgoing
from mediator.errors import SettingsError
from mediator.messaging.transport import Capabilities
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener, rows, writes
from tests.support import AppFactory, Effect, effects, module_of
from tests.support.transports import ScriptedTransport


@event_topic("notes", domain="bank", internal=True)
class DraftedV1(IntegrationEvent):
    """A note that nobody else should see was written."""

    text: str = ""


def tells(handler: Any, event: Any) -> None:
    handler.session.add(Effect(what=type(event).__name__, detail=f"{event.text} {handler.context.topic}"))


async def test_a_handler_gets_the_events_whose_address_matches(make_app: AppFactory) -> None:
    send = listener("Send", tells, NotedV1 | RemarkedV1 | DraftedV1, topics=("test.*.public.#", "elsewhere"))
    async with make_app(module_of("mail", send)) as app:
        for event in NotedV1(text="1"), DraftedV1(text="2"), RemarkedV1(text="3"):
            await app.publish_in_own_transaction(event)
        await app.publish_in_own_transaction(
            Outgoing(DraftedV1(text="4"), topic="elsewhere"), Outgoing(NotedV1(text="5"), topic="nowhere")
        )
        await app.drained()

        assert sorted(await effects(app)) == [
            ("DraftedV1", "4 elsewhere"),
            ("NotedV1", "1 test.bank.public.notes.v1"),
            ("RemarkedV1", "3 test.bank.public.remarks.v1"),
        ]


async def test_a_handler_of_every_event_gets_each_as_its_own_class(make_app: AppFactory) -> None:
    audit = listener("Audit", tells, IntegrationEvent, topics=("{environment}.bank.#",))
    async with make_app(module_of("mail", audit, NotedV1, RemarkedV1)) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"), RemarkedV1(text="2"))
        await app.drained()

        assert sorted(await effects(app)) == [
            ("NotedV1", "1 test.bank.public.notes.v1"),
            ("RemarkedV1", "2 test.bank.public.remarks.v1"),
        ]


async def test_topics_of_one_handler_are_not_those_of_its_neighbour(make_app: AppFactory) -> None:
    everything = listener("Everything", tells, IntegrationEvent, topics=("#",))
    async with make_app(module_of("mail", everything, listener("Send", writes))) as app:
        await app.publish_in_own_transaction(Outgoing(NotedV1(text="astray"), topic="test.bank.public.others.v1"))
        await app.publish_in_own_transaction(NotedV1(text="home"))
        await app.drained()

        assert [found for found in await effects(app) if found[0] == "Send"] == [("Send", "home")]
        assert app.counters.total("handled", "mail.everything") == 2


async def test_patterns_that_overlap_bring_an_event_once(make_app: AppFactory) -> None:
    send = listener("Send", writes, topics=("test.#", "*.bank.#", "test.bank.public.notes.v1"))
    async with make_app(module_of("mail", send)) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("Send", "x")]
        assert app.counters.total("duplicate_skipped") == 0


async def test_what_failed_is_tried_again_although_the_topics_were_changed_since(make_app: AppFactory) -> None:
    def fails(_handler: Any, _event: Any) -> None:
        raise LookupError("not yet")

    first = make_app(module_of("mail", listener("Send", fails, topics=("test.#",), retry=at_once(1))))
    async with first as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()
        (letter,) = await app.dead_letters.list()

    async with make_app(module_of("mail", listener("Send", writes, topics=("elsewhere",)))) as app:
        await app.dead_letters.replay(letter.position)
        await app.drained()

        assert await effects(app) == [("Send", "x")]
        assert not await rows(app, "parked")


async def test_configured_topics_replace_those_of_the_class(make_app: AppFactory) -> None:
    module = module_of("mail", listener("Send", writes), listener("Keep", writes, topics=("nowhere",)))
    topics = {"mail.send": ("{environment}.elsewhere",), "mail.keep": ["test.bank.#"]}
    async with make_app(module, subscriptions=topics) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"), Outgoing(NotedV1(text="2"), topic="test.elsewhere"))
        await app.drained()

        assert sorted(await effects(app)) == [("Keep", "1"), ("Send", "2")]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("wrong", ["test.#", (7,)])
def test_configured_topics_that_are_no_list_of_texts_are_refused(make_app: AppFactory, wrong: Any) -> None:
    with pytest.raises(SettingsError, match=r"subscriptions\['mail.send'\]"):
        make_app(module_of("mail"), subscriptions={"mail.send": wrong})


@pytest.mark.databases("sqlite")
async def test_a_transport_without_patterns_is_refused_when_somebody_needs_them(make_app: AppFactory) -> None:
    app = make_app(module_of("mail", listener("Send", writes, topics=("test.#",))), transport=ScriptedTransport())

    with pytest.raises(SettingsError, match="takes no patterns, and handlers listen to test"):
        async with app:
            pass


@pytest.mark.databases("sqlite")
async def test_a_broker_gets_ready_for_what_is_known_and_what_is_listened_to(make_app: AppFactory) -> None:
    ready = list[str]()

    class Broker(ScriptedTransport):
        capabilities = Capabilities(durable=True, ordered=True, wildcards=True)

        async def provision(self, topics: Any, groups: Any, *, create: bool = True) -> None:
            ready.extend(topics)

    module = module_of("mail", listener("Send", writes, topics=("*.bank.#", "other")), RemarkedV1)
    async with make_app(module, transport=Broker()):
        pass

    assert ready == ["other", "test.bank.public.notes.v1", "test.bank.public.remarks.v1"]
