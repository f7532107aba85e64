"""What handlers return goes where the sender said, in their transaction, unless they decide otherwise."""

from typing import Any

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventConverter, MediatorApp, Outgoing, PublishingMiddleware, RetryPolicy
from mediator.domain import DomainEvent
from mediator.errors import EventRefusedError, PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener
from tests.support import Account, AppFactory, Effect, effects, module_of, quick_settings

ANSWERS = "answers.for-me"
OWN = "test.bank.public.remarks.v1"


@event_topic("replies", domain="mail")
class RepliedV1(IntegrationEvent):
    """Somebody replied."""

    text: str = ""


class Recorded(DomainEvent):
    """Something happened on the way."""


class RecordedConverter(IntegrationEventConverter[Recorded, RemarkedV1]):
    def convert(self, event: Recorded) -> RemarkedV1:
        return RemarkedV1(text="converted")


def answers(handler: Any, event: NotedV1) -> RemarkedV1:
    return RemarkedV1(text=f"{type(handler).__name__} {event.text}")


def tells(handler: Any, event: Any) -> None:
    handler.session.add(Effect(what=event.text, detail=handler.context.topic))


def asked(*classes: Any) -> Any:
    """Whoever answers, and a module that looks where the answers go."""
    look = listener("Look", tells, RemarkedV1 | RepliedV1, topics=("#",))
    return module_of("mail", *classes), module_of("audit", look)


async def ask(app: MediatorApp, callback: Any = ANSWERS, text: str = "?", **said: Any) -> None:
    await app.publish_in_own_transaction(Outgoing(NotedV1(text=text), callback=callback, **said))
    await app.drained()


async def test_every_answer_goes_to_the_callback(make_app: AppFactory) -> None:
    async with make_app(*asked(listener("Send", answers), listener("Keep", answers))) as app:
        await ask(app)

        assert sorted(await effects(app)) == [("Keep ?", ANSWERS), ("Send ?", ANSWERS)]


async def test_without_a_callback_answers_go_to_their_own_topics(make_app: AppFactory) -> None:
    async with make_app(*asked(listener("Send", answers))) as app:
        await ask(app, None)

        assert await effects(app) == [("Send ?", OWN)]


async def test_an_event_as_callback_means_its_topic(make_app: AppFactory) -> None:
    async with make_app(*asked(listener("Send", answers))) as app:
        await ask(app, RepliedV1)

        assert await effects(app) == [("Send ?", "test.mail.public.replies.v1")]


async def test_the_lineage_goes_on(make_app: AppFactory) -> None:
    seen = list[tuple[str, str | None]]()

    def look(handler: Any, _event: RemarkedV1) -> None:
        seen.append((handler.context.correlation_id, handler.context.causation_id))

    question = NotedV1(correlation_id="request-7")
    modules = module_of("mail", listener("Send", answers), listener("Look", look, RemarkedV1, topics=(ANSWERS,)))
    async with make_app(modules) as app:
        await app.publish_in_own_transaction(Outgoing(question, callback=ANSWERS))
        await app.drained()

    assert seen == [("request-7", str(question.event_id))]


async def test_a_handler_adds_headers(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> list[Any]:
        handler.context.response.headers.update(status="done", tenant="ada")
        return [answers(handler, event), Outgoing(RemarkedV1(text="own"), headers={"tenant": "bob"})]

    def look(handler: Any, event: RemarkedV1) -> None:
        handler.session.add(Effect(what=event.text, detail=repr(sorted(handler.context.headers.items()))))

    modules = module_of("mail", listener("Send", react), listener("Look", look, RemarkedV1, topics=(ANSWERS,)))
    async with make_app(modules) as app:
        await ask(app)

        assert sorted(await effects(app)) == [
            ("Send ?", "[('status', 'done'), ('tenant', 'ada')]"),
            ("own", "[('status', 'done'), ('tenant', 'bob')]"),
        ]


@pytest.mark.parametrize(("chosen", "where"), [("answers.elsewhere", "answers.elsewhere"), (None, OWN)])
async def test_a_handler_redirects_or_removes_the_callback(
    make_app: AppFactory, chosen: str | None, where: str
) -> None:
    def react(handler: Any, event: NotedV1) -> RemarkedV1:
        assert handler.context.response.topic == ANSWERS
        handler.context.response.topic = chosen
        return answers(handler, event)

    async with make_app(*asked(listener("Send", react), listener("Keep", answers))) as app:
        await ask(app)

        assert sorted(await effects(app)) == [("Keep ?", ANSWERS), ("Send ?", where)]


async def test_a_topic_that_the_handler_says_of_one_event_counts_first(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> Outgoing[RemarkedV1]:
        return Outgoing(answers(handler, event), topic="this.one")

    async with make_app(*asked(listener("Send", react))) as app:
        await ask(app)

        assert await effects(app) == [("Send ?", "this.one")]


async def test_only_what_is_returned_is_an_answer(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> RemarkedV1:
        account = Account(owner="Ada")
        account.record_event(Recorded())
        handler.session.add(account)
        return answers(handler, event)

    async with make_app(*asked(listener("Send", react), Recorded, RecordedConverter)) as app:
        await ask(app)

        assert sorted(await effects(app)) == [("Send ?", ANSWERS), ("converted", OWN)]


async def test_an_answer_asks_nobody_back_unless_it_says_so(make_app: AppFactory) -> None:
    def again(handler: Any, event: RemarkedV1) -> RepliedV1:
        return RepliedV1(text=f"{handler.context.response.topic}")

    mail = listener("Send", answers), listener("Again", again, RemarkedV1, topics=(ANSWERS,))
    async with make_app(*asked(*mail)) as app:
        await ask(app)

        assert sorted(await effects(app)) == [("None", "test.mail.public.replies.v1"), ("Send ?", ANSWERS)]


async def test_answers_are_part_of_the_handlers_transaction_and_each_attempt_begins_anew(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> Any:
        response = handler.context.response
        handler.session.add(Effect(what="seen", detail=f"{response.topic} {response.headers}"))
        if handler.context.attempt == 1:
            response.topic = "lost"
            response.headers["x"] = "1"
            return [answers(handler, event), 7]
        return answers(handler, event)

    async with make_app(*asked(listener("Send", react, retry=at_once(2)))) as app:
        await ask(app)

        assert sorted(await effects(app)) == [("Send ?", ANSWERS), ("seen", f"{ANSWERS} {{}}")]


async def test_a_blocking_handler_answers_too(make_app: AppFactory) -> None:
    def plain(_self: Any, event: NotedV1) -> RemarkedV1:
        return RemarkedV1(text=event.text)

    send = type("Send", (listener("Base", answers),), {"blocking": True, "handle": plain, "__init__": object.__init__})
    async with make_app(*asked(send)) as app:
        await ask(app)

        assert await effects(app) == [("?", ANSWERS)]


async def test_a_replayed_dead_letter_still_knows_its_callback(make_app: AppFactory) -> None:
    broken = True

    def react(handler: Any, event: NotedV1) -> RemarkedV1:
        if broken:
            raise LookupError("broken")
        return answers(handler, event)

    settings = quick_settings(allow_edited_replay=True)
    async with make_app(*asked(listener("Send", react, retry=at_once(1))), settings=settings) as app:
        await ask(app, text="1")
        await ask(app, text="2")
        first, second = await app.dead_letters.list()
        broken = False
        await app.dead_letters.replay(first.position)
        await app.dead_letters.edit_and_replay(second.position, {"text": "3"}, reason="typo")
        await app.drained()

        assert sorted(await effects(app)) == [("Send 1", ANSWERS), ("Send 3", ANSWERS)]


class Refusing(MemoryTransport):
    """Takes nothing until it is told to."""

    takes = False

    async def publish(self, batch: Any) -> Any:
        if self.takes:
            async for outcome in super().publish(batch):
                yield outcome
        else:
            for envelope in batch:
                yield envelope, PublishRefusedError(self.name, envelope.topic, "no")


async def test_what_could_not_be_sent_keeps_its_callback_and_its_headers(make_app: AppFactory) -> None:
    transport = Refusing()
    settings = quick_settings(relay={"retry": RetryPolicy.never()})
    async with make_app(*asked(listener("Send", answers)), transport=transport, settings=settings) as app:
        await ask(app, headers={"tenant": "ada"})
        (letter,) = await app.dead_letters.list()
        transport.takes = True
        await app.dead_letters.replay(letter.position)
        await app.drained()

        assert await effects(app) == [("Send ?", ANSWERS)]


async def test_a_publishing_middleware_sees_and_changes_the_callback(make_app: AppFactory) -> None:
    class Redirects(PublishingMiddleware):
        def publish(self, outgoing: Outgoing[Any], proceed: Any) -> None:
            changed = Outgoing(outgoing.event, callback="redirected") if outgoing.callback == ANSWERS else outgoing
            proceed(changed)

    async with make_app(*asked(listener("Send", answers)), middleware=[Redirects]) as app:
        await ask(app)

        assert await effects(app) == [("Send ?", "redirected")]


@pytest.mark.parametrize("callback", ["two words", "tab\there", "ümlaut", "a" * 250, ""])
async def test_a_message_with_a_callback_that_is_no_address_is_a_dead_letter(
    make_app: AppFactory, callback: str
) -> None:
    event = NotedV1(text="?")
    envelope = Envelope(
        event_id=event.event_id,
        topic="test.bank.public.notes.v1",
        type="bank.noted",
        version="v1",
        body=event.model_dump_json().encode(),
        occurred_on=event.occurred_on,
        source="/elsewhere",
        callback=callback,
    )
    async with make_app(*asked(listener("Send", answers))) as app:
        async for _, error in app.transport.publish([envelope]):
            assert error is None

        letters = await app.dead_letters.list()
        assert {letter.reason for letter in letters} <= {"unreadable: callback", "unreadable: encoding"}
        assert {letter.subscriber_id for letter in letters} == {"@mail", "@audit"}
        assert await effects(app) == []


async def test_a_callback_that_no_receiver_would_take_is_refused_where_it_is_published(make_app: AppFactory) -> None:
    settings = quick_settings(limits={"header_value_bytes": 50})
    async with make_app(*asked(), settings=settings) as app, app.unit_of_work() as uow:
        uow.publish(Outgoing(NotedV1(), callback="a" * 50))
        with pytest.raises(EventRefusedError, match="'ce-callback': the value exceeds 50 bytes"):
            uow.publish(Outgoing(NotedV1(), callback="a" * 51))
