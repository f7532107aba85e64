"""Group commit and batch handlers: one transaction for what waits, and nobody pays for another's failure."""

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import timedelta
from types import new_class
from typing import Any
from uuid import UUID

import injector
import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    BatchIntegrationEventHandler,
    ContextPropagation,
    IntegrationEventHandler,
    MediatorApp,
    MessageContext,
    PermanentError,
    UnitOfWorkScope,
)
from mediator.messaging.envelope import Envelope
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, rows, writes
from tests.promises.arrivals import arrive_at_once, envelope_of
from tests.publishing.bank import FactV1, Happened, HappenedConverter
from tests.support import Account, AppFactory, Effect, effects, module_of


def notes(*texts: str, account: str | None = None) -> list[NotedV1]:
    return [NotedV1(account=text if account is None else account, text=text) for text in texts]


async def come(app: MediatorApp, envelopes: Iterable[Any]) -> None:
    """All of them wait before the first is handled; returns when all are acknowledged."""
    await arrive_at_once(app, *(one if isinstance(one, Envelope) else envelope_of(one) for one in envelopes))


class Commits:
    """How many transactions the handlers of an application were in."""

    def __init__(self) -> None:
        self.sessions: list[object] = []

    def handler(self, name: str = "Write", **attributes: Any) -> type[IntegrationEventHandler[Any]]:
        """Writes an effect for each event, and fails for those whose text says so."""

        def react(handler: Any, event: NotedV1) -> None:
            if handler.session not in self.sessions:
                self.sessions.append(handler.session)
            writes(handler, event)
            if event.text.startswith("fails"):
                raise LookupError(event.text)

        return listener(name, react, **{"max_batch": 100, "concurrency": 1, "retry": at_once(2), **attributes})


def batch_handler(react: Any, **attributes: Any) -> type[BatchIntegrationEventHandler[NotedV1]]:
    def construct(self: Any, session: AsyncSession) -> None:
        self.session = session

    async def handle(self: Any, events: Sequence[NotedV1]) -> Any:
        return react(self, events)

    namespace = {"__init__": construct, "handle": handle, "concurrency": 1, "retry": at_once(2), **attributes}
    bases = (BatchIntegrationEventHandler[NotedV1],)
    return new_class("Write", bases, exec_body=lambda body: body.update(namespace))


async def test_what_waits_shares_a_transaction(make_app: AppFactory) -> None:
    commits = Commits()
    async with make_app(module_of("mail", commits.handler())) as app:
        await come(app, notes(*"abcde"))

        assert await effects(app) == [("Write", text) for text in "abcde"]
        assert len(commits.sessions) == 1
        assert len(await rows(app, "inbox")) == 5
        assert app.counters.total("handled", "mail.write") == 5


async def test_no_more_share_one_than_max_batch(make_app: AppFactory) -> None:
    commits = Commits()
    async with make_app(module_of("mail", commits.handler(max_batch=2))) as app:
        await come(app, notes(*"abcde"))

        assert await effects(app) == [("Write", text) for text in "abcde"]
        assert len(commits.sessions) == 3


async def test_the_culprit_is_taken_out_and_the_others_commit_together(make_app: AppFactory) -> None:
    commits = Commits()
    async with make_app(module_of("mail", commits.handler())) as app:
        await come(app, notes("a", "b", "fails", "c"))
        await app.drained()

        assert await effects(app) == [("Write", text) for text in "abc"]
        # One that failed, one that committed, and the culprit's second and last attempt.
        assert len(commits.sessions) == 3
        (letter,) = await app.dead_letters.list()
        assert (letter.attempts, letter.error) == (2, "fails")
        assert app.counters.total("failed", "mail.write") == 2


async def test_a_culprit_that_is_not_tried_again_is_dead_at_once_and_told(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> None:
        writes(handler, event)
        if event.text == "fails":
            raise PermanentError(event.text)

    told: list[UUID] = []
    culprit = NotedV1(text="fails")
    handler = listener("Write", react, max_batch=10, concurrency=1)
    app = make_app(module_of("mail", handler), on_dead_letter=lambda letter: told.append(letter.event_id))
    async with app:
        await come(app, [*notes("a"), culprit, *notes("b")])

        assert await effects(app) == [("Write", "a"), ("Write", "b")]
        assert told == [culprit.event_id]


async def test_with_many_culprits_each_event_is_on_its_own(make_app: AppFactory) -> None:
    commits = Commits()
    bad = [f"fails {number}" for number in range(6)]
    async with make_app(module_of("mail", commits.handler())) as app:
        await come(app, notes("a", *bad, "b"))
        await app.drained()

        assert await effects(app) == [("Write", "a"), ("Write", "b")]
        letters = await app.dead_letters.list()
        assert sorted((letter.error, letter.attempts) for letter in letters) == [(text, 2) for text in bad]


async def test_a_failing_event_holds_back_the_later_ones_of_its_key(make_app: AppFactory) -> None:
    commits = Commits()
    handler = commits.handler(ordering="key", retry=at_once(1))
    mine = notes("a", "fails", "b", "c", account="mine")
    async with make_app(module_of("mail", handler)) as app:
        await come(app, [*mine[:2], *notes("other"), *mine[2:]])
        await come(app, notes("d", "e", account="mine"))

        assert await effects(app) == [("Write", "a"), ("Write", "other")]
        assert [row.status for row in await rows(app, "parked")] == ["dead", *["blocked"] * 4]

        (letter,) = await app.dead_letters.list()
        await app.dead_letters.discard(letter.position, reason="tested enough")
        await app.drained()
        assert await effects(app) == [("Write", text) for text in ("a", "other", "b", "c", "d", "e")]


async def test_copies_of_an_event_have_one_effect(make_app: AppFactory) -> None:
    commits = Commits()
    event = NotedV1(text="x")
    async with make_app(module_of("mail", commits.handler())) as app:
        await come(app, [event, event, *notes("a"), event])
        await come(app, [event, *notes("b"), event])

        assert await effects(app) == [("Write", text) for text in "xab"]
        assert app.counters.total("duplicate_skipped", "mail.write") == 4


async def test_the_same_id_with_another_content_is_quarantined(make_app: AppFactory) -> None:
    commits = Commits()
    event = NotedV1(text="x")
    forged, forged_again = (event.model_copy(update={"text": text}) for text in "yz")
    async with make_app(module_of("mail", commits.handler())) as app:
        await come(app, [event, forged, *notes("a")])
        await come(app, [*notes("b"), forged_again, *notes("c")])

        assert sorted(await effects(app)) == [("Write", text) for text in "abcx"]
        assert [letter.reason for letter in await app.dead_letters.list()] == ["identity conflict"] * 2


async def test_each_event_has_its_own_context_and_lineage(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    def react(handler: Any, event: NotedV1) -> RemarkedV1:
        contexts.append(handler.context)
        return RemarkedV1(text=event.text)

    handler = listener("Write", react, max_batch=10, concurrency=1)
    async with make_app(module_of("mail", handler), module_of("audit", listener("Note", writes, RemarkedV1))) as app:
        events = [event.model_copy(update={"correlation_id": f"of {event.text}"}) for event in notes(*"abc")]
        sent = [envelope_of(event, correlation_id=event.correlation_id) for event in events]
        await come(app, sent)
        await app.drained()

        assert [context.message_id for context in contexts] == [event.event_id for event in events]
        made = {row.causation_id: row.correlation_id for row in await rows(app, "sent")}
        assert made == {str(event.event_id): event.correlation_id for event in events}
        assert len(await effects(app)) == 3


async def test_domain_events_belong_to_the_event_that_they_were_recorded_in(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> None:
        account = Account(owner=event.text)
        handler.session.add(account)
        account.record_event(Happened(event.text))

    handler = listener("Write", react, max_batch=10, concurrency=1)
    opened = listener("Note", lambda *_: None, FactV1)
    async with make_app(module_of("mail", handler, HappenedConverter), module_of("audit", opened)) as app:
        events = notes(*"abc")
        await come(app, events)
        await app.drained()

        caused = [row.causation_id for row in await rows(app, "sent")]
        assert sorted(caused) == sorted(str(event.event_id) for event in events)


async def test_when_the_database_objects_nobody_knows_to_whom(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> None:
        # Two of them take one key, which is seen when all are written.
        handler.session.add(Effect(id=7 if event.text in ("b", "c") else None, what="Write", detail=event.text))

    handler = listener("Write", react, max_batch=10, concurrency=1, retry=at_once(2))
    async with make_app(module_of("mail", handler)) as app:
        await come(app, notes(*"abcd"))
        await app.drained()

        assert sorted(await effects(app)) == [("Write", text) for text in "abd"]
        (letter,) = await app.dead_letters.list()
        assert letter.error_type == f"{IntegrityError.__module__}.{IntegrityError.__qualname__}"


async def test_one_that_meets_the_error_of_another_is_not_blamed(make_app: AppFactory) -> None:
    async def react(handler: Any, event: NotedV1) -> None:
        handler.session.add(Effect(id=7 if event.text in ("a", "c") else None, what="Write", detail=event.text))
        if event.text == "d":
            # Everything that the others left is written first.
            await handler.session.exec(select(Effect))

    handler = listener("Write", react, max_batch=10, concurrency=1, retry=at_once(1))
    async with make_app(module_of("mail", handler)) as app:
        await come(app, notes("a"))
        await come(app, notes(*"bcde"))

        assert sorted(await effects(app)) == [("Write", text) for text in "abde"]
        assert app.counters.total("failed", "mail.write") == 1


async def test_a_batch_that_takes_too_long_is_split(make_app: AppFactory) -> None:
    async def react(handler: Any, event: NotedV1) -> None:
        writes(handler, event)
        if event.text == "hangs":
            await asyncio.Event().wait()

    timeout = timedelta(milliseconds=300)
    handler = listener("Write", react, max_batch=10, concurrency=1, timeout=timeout, retry=at_once(1))
    async with make_app(module_of("mail", handler)) as app:
        await come(app, notes("a", "hangs", "b"))
        await app.drained()

        assert await effects(app) == [("Write", "a"), ("Write", "b")]
        (letter,) = await app.dead_letters.list()
        assert letter.attempts == 1


async def test_a_redelivered_event_is_counted_alone(make_app: AppFactory) -> None:
    commits = Commits()
    async with make_app(module_of("mail", commits.handler())) as app:
        suspect = envelope_of(NotedV1(text="x"), handed_over=1)
        await come(app, [*notes("a"), suspect, *notes("b")])
        await app.drained()

        assert sorted(await effects(app)) == [("Write", text) for text in "abx"]
        assert app.counters.total("parked", "mail.write") == 1


async def test_retries_are_never_part_of_a_batch(make_app: AppFactory) -> None:
    seen: list[int] = []

    def react(_handler: object, events: Sequence[NotedV1]) -> None:
        seen.append(len(events))
        if len(seen) <= 4:
            raise LookupError("not yet")

    async with make_app(module_of("mail", batch_handler(react))) as app:
        await come(app, notes(*"abc"))
        await app.drained()

        assert seen == [3, 1, 1, 1, 1, 1, 1]
        assert app.counters.total("handled", "mail.write") == 3


async def test_a_batch_handler_gets_the_list(make_app: AppFactory) -> None:
    batches: list[list[str]] = []

    def react(handler: Any, events: Sequence[NotedV1]) -> list[RemarkedV1]:
        batches.append([event.text for event in events])
        handler.session.add_all(Effect(what="Write", detail=event.text) for event in events)
        return [RemarkedV1(text=event.text) for event in events]

    remarks = listener("Note", writes, RemarkedV1)
    async with make_app(module_of("mail", batch_handler(react)), module_of("audit", remarks)) as app:
        events = notes(*"abc")
        await come(app, events)
        await app.drained()

        assert batches == [["a", "b", "c"]]
        assert sorted(await effects(app)) == [(name, text) for name in ("Note", "Write") for text in "abc"]
        assert {row.causation_id for row in await rows(app, "sent")} == {str(events[0].event_id)}


async def test_an_event_that_a_batch_handler_cannot_take_fails_alone(make_app: AppFactory) -> None:
    def react(handler: Any, events: Sequence[NotedV1]) -> None:
        handler.session.add_all(Effect(what="Write", detail=event.text) for event in events)
        if any(event.text == "fails" for event in events):
            raise LookupError("one of them")

    async with make_app(module_of("mail", batch_handler(react))) as app:
        await come(app, notes("a", "fails", "b"))
        await app.drained()

        assert await effects(app) == [("Write", "a"), ("Write", "b")]
        (letter,) = await app.dead_letters.list()
        assert letter.attempts == 2


async def test_a_single_event_comes_to_a_batch_handler_as_a_list_of_one(make_app: AppFactory) -> None:
    batches: list[Sequence[NotedV1]] = []
    async with make_app(module_of("mail", batch_handler(lambda _, events: batches.append(events)))) as app:
        (event,) = notes("a")
        await app.publish_in_own_transaction(event)
        await app.drained()

        assert [[one.event_id for one in batch] for batch in batches] == [[event.event_id]]


async def test_middleware_stands_around_each_event(make_app: AppFactory) -> None:
    tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
    seen: list[tuple[str, str | None]] = []
    handler = listener("Write", lambda _, event: seen.append((event.text, tenant.get())), max_batch=10, concurrency=1)
    app = make_app(module_of("mail", handler), middleware=[ContextPropagation(tenant=tenant)])
    async with app:
        await come(app, [envelope_of(event, headers={"tenant": event.text * 2}) for event in notes(*"ab")])

        assert seen == [("a", "aa"), ("b", "bb")]


async def test_what_a_handler_keeps_of_its_message_is_built_anew(make_app: AppFactory) -> None:
    class Memory:
        def __init__(self, context: MessageContext) -> None:
            self.message_id = context.message_id

    seen: list[tuple[UUID, UUID]] = []

    class Write(IntegrationEventHandler[NotedV1]):
        max_batch = 10
        concurrency = 1

        def __init__(self, memory: Memory) -> None:
            self.memory = memory

        async def handle(self, event: NotedV1) -> None:
            seen.append((event.event_id, self.memory.message_id))

    def bind(binder: injector.Binder) -> None:
        binder.bind(Memory, scope=UnitOfWorkScope)

    async with make_app(module_of("mail", Write, bindings=[bind])) as app:
        await come(app, notes(*"abc"))

        assert len(seen) == 3
        assert all(event_id == message_id for event_id, message_id in seen)


async def test_each_event_may_raise_as_many_domain_events_as_it_could_alone(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> None:
        account = Account(owner=event.text)
        handler.session.add(account)
        for _ in range(400):
            account.record_event(Happened(event.text))

    handler = listener("Write", react, max_batch=10, concurrency=1)
    async with make_app(module_of("mail", handler)) as app:
        await come(app, notes(*"abc"))

        assert app.counters.total("handled", "mail.write") == 3
        assert await rows(app, "parked") == []


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
async def test_an_event_that_is_being_handled_elsewhere_is_not_waited_for_by_the_others(make_app: AppFactory) -> None:
    held, entered, go_on = NotedV1(text="held"), asyncio.Event(), asyncio.Event()

    async def react(handler: Any, event: NotedV1) -> None:
        writes(handler, event)
        if event.text == "held" and not entered.is_set():
            entered.set()
            await go_on.wait()

    handler = listener("Write", react, max_batch=10, concurrency=1, subscriber_id="write")
    modules = module_of("mail", handler)
    async with make_app(modules) as elsewhere, make_app(modules) as app:
        there = asyncio.create_task(come(elsewhere, [held]))
        await entered.wait()
        here = asyncio.create_task(come(app, [*notes("a"), held]))
        await eventually(lambda: app.counters.total("handled", "write") == 1)
        assert app.counters.total("duplicate_skipped", "write") == 0
        go_on.set()
        await asyncio.gather(there, here)

        assert sorted(await effects(app)) == [("Write", "a"), ("Write", "held")]
        assert app.counters.total("duplicate_skipped", "write") == 1


async def test_a_paused_handler_takes_no_batches(make_app: AppFactory) -> None:
    commits = Commits()
    async with make_app(module_of("mail", commits.handler())) as app:
        app.pause("mail.write")
        await come(app, notes(*"abc"))
        assert await effects(app) == []
        assert len(await rows(app, "parked")) == 3

        app.resume("mail.write")
        await app.drained()
        assert len(await effects(app)) == 3
