"""`when_dead = "skip"`: a key waits for a retry, goes on without what is dead, and its handler is told so."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, update
from sqlalchemy.util import await_only
from structlog.testing import capture_logs

from mediator import (
    DeadLetter,
    IntegrationEventHandler,
    MediatorApp,
    MessageContext,
    PermanentError,
    RetryPolicy,
)
from mediator.consuming import retries
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, rows
from tests.promises.arrivals import arrive, arrive_at_once, envelope_of
from tests.support import AppFactory, Effect, effects, module_of


class Book:
    """Says in each effect what was skipped; fails for the texts in `wrong`, as often as it says."""

    def __init__(self, **wrong: int) -> None:
        self.wrong, self.calls, self.error = wrong, list[str](), LookupError
        self._texts = dict[UUID, str]()

    def handler(self, name: str = "Book", attempts: int = 1, **attributes: Any) -> type[IntegrationEventHandler[Any]]:
        chosen = {"ordering": "key", "when_dead": "skip", "retry": at_once(attempts), **attributes}
        return listener(name, self, **chosen)

    def __call__(self, handler: Any, event: NotedV1) -> None:
        self.calls.append(event.text)
        if self.wrong.get(event.text, 0) > 0:
            self.wrong[event.text] -= 1
            raise self.error("not yet")
        handler.session.add(Effect(what=self.named(handler.context.skipped), detail=event.text))

    def named(self, skipped: Iterable[UUID]) -> str:
        return " ".join(self._texts[one] for one in skipped)

    def event(self, text: str, account: str = "a") -> NotedV1:
        event = NotedV1(account=account, text=text)
        self._texts[event.event_id] = text
        return event

    async def publish(self, app: MediatorApp, *texts: str, account: str = "a") -> None:
        for text in texts:
            await app.publish_in_own_transaction(self.event(text, account))


async def statuses(app: MediatorApp) -> list[str]:
    return [row.status for row in await rows(app, "parked")]


async def died(app: MediatorApp, text: str) -> DeadLetter:
    (letter,) = (one for one in await app.dead_letters.list() if text_of(one) == text)
    return letter


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_key_waits_for_a_retry_and_goes_on_without_what_is_dead(make_app: AppFactory, attempts: int) -> None:
    book = Book(a1=99)

    async with make_app(module_of("bank", book.handler(attempts=attempts))) as app:
        await book.publish(app, "a1", "a2", "a3")
        await book.publish(app, "b1", account="b")
        await app.drained()

        assert sorted(await effects(app)) == [("", "b1"), ("a1", "a2"), ("a1", "a3")]
        assert [text for text in book.calls if text[0] == "a"] == ["a1"] * attempts + ["a2", "a3"]
        assert await statuses(app) == ["dead"]


async def test_every_dead_event_before_it_is_told_the_oldest_first(make_app: AppFactory) -> None:
    book = Book(a1=99, a3=99)
    book.error = PermanentError  # type: ignore[assignment]

    async with make_app(module_of("bank", book.handler(attempts=5))) as app:
        await book.publish(app, "a1", "a2", "a3", "a4")
        await app.drained()

        assert await effects(app) == [("a1", "a2"), ("a1 a3", "a4")]


async def test_a_retry_is_told_of_what_is_before_it_and_not_of_what_is_behind_it(make_app: AppFactory) -> None:
    book = Book(a1=99, a2=2, a3=99)

    async with make_app(module_of("bank", book.handler(attempts=3))) as app:
        await book.publish(app, "a1", "a2", "a3")
        await app.drained()
        assert await effects(app) == [("a1", "a2")]

        book.wrong.clear()
        await app.dead_letters.replay((await died(app, "a1")).position)
        await app.drained()
        assert await effects(app) == [("a1", "a2"), ("", "a1")]


async def test_a_restart_forgets_nothing(make_app: AppFactory) -> None:
    book = Book(a1=99)

    async with make_app(module_of("bank", book.handler())) as app:
        await book.publish(app, "a1")
        await app.drained()
    async with make_app(module_of("bank", book.handler())) as app:
        await book.publish(app, "a2")
        await app.drained()

        assert await effects(app) == [("a1", "a2")]


async def test_the_log_and_the_dead_letter_say_that_it_is_skipped(make_app: AppFactory) -> None:
    told: list[DeadLetter] = []
    book, waiting = Book(a1=99), Book(a1=99)
    handlers = book.handler(), waiting.handler("Wait", when_dead="block")

    with capture_logs() as logs:
        async with make_app(module_of("bank", *handlers), on_dead_letter=told.append) as app:
            skipped = book.event("a1")
            await app.publish_in_own_transaction(skipped)
            follower = book.event("a2")
            await app.publish_in_own_transaction(follower)
            await app.drained()
            await eventually(lambda: len(told) == 2)

            assert {letter.subscriber_id: letter.skipped for letter in told} == {"bank.book": True, "bank.wait": False}
            assert await statuses(app) == ["dead", "dead", "blocked"]
            await app.dead_letters.discard(
                (await app.dead_letters.list(subscriber_id="bank.book"))[0].position, reason=""
            )
            (discarded,) = await app.dead_letters.list(status="discarded")
            assert not discarded.skipped

    (line,) = (line for line in logs if line["event"] == "key.went_on")
    assert (line["subscriber"], line["event_id"]) == ("bank.book", str(follower.event_id))
    assert line["skipped"] == [str(skipped.event_id)]


async def test_later_ones_wait_for_a_replay(make_app: AppFactory) -> None:
    book = Book(a1=3)

    async with make_app(module_of("bank", book.handler(attempts=2))) as app:
        await book.publish(app, "a1", "a2")
        await app.drained()
        app.pause("bank.book")
        await app.dead_letters.replay((await died(app, "a1")).position)
        await book.publish(app, "a3")
        await eventually(lambda: app.counters.total("parked", "bank.book") == 2)
        assert await statuses(app) == ["retry", "blocked"]
        app.resume("bank.book")
        await app.drained()

        assert await effects(app) == [("a1", "a2"), ("", "a1"), ("", "a3")]


async def test_what_waits_for_a_replay_goes_on_when_that_dies_again(make_app: AppFactory) -> None:
    book = Book(a1=99)

    async with make_app(module_of("bank", book.handler(attempts=2))) as app:
        await book.publish(app, "a1")
        await app.drained()
        app.pause("bank.book")
        await app.dead_letters.replay((await died(app, "a1")).position)
        await book.publish(app, "a2", "a3")
        await eventually(lambda: app.counters.total("parked", "bank.book") == 3)
        assert await statuses(app) == ["retry", "blocked", "blocked"]
        app.resume("bank.book")
        await app.drained()

        assert await effects(app) == [("a1", "a2"), ("a1", "a3")]
        assert await statuses(app) == ["dead"]


async def test_a_selection_is_replayed_in_order_and_waits_for_no_other_dead_one(make_app: AppFactory) -> None:
    book = Book(a1=1, a2=1, a3=1)

    async with make_app(module_of("bank", book.handler())) as app:
        await book.publish(app, "a1", "a2", "a3")
        await app.drained()
        app.pause("bank.book")
        selection = await app.dead_letters.select()
        await app.dead_letters.replay(type(selection)("dead", selection.letters[1:]))
        # While it rests, nobody sweeps up what is blocked for no reason.
        assert await statuses(app) == ["dead", "retry", "blocked"]
        app.resume("bank.book")
        await app.drained()

        assert await effects(app) == [("a1", "a2"), ("a1", "a3")]


async def test_what_a_person_decided_on_is_told_no_more_until_it_is_restored(make_app: AppFactory) -> None:
    book = Book(a1=99)

    async with make_app(module_of("bank", book.handler())) as app:
        await book.publish(app, "a1")
        await app.drained()
        letter = await died(app, "a1")
        await app.dead_letters.discard(letter.position, reason="was a test")
        await book.publish(app, "a2")
        await app.drained()
        await app.dead_letters.restore(letter.position)
        await book.publish(app, "a3")
        await app.drained()

        assert await effects(app) == [("", "a2"), ("a1", "a3")]


@pytest.mark.parametrize("renamed", [{}, {"name": "Ledger", "aliases": ("bank.book",)}], ids=["same", "renamed"])
async def test_what_waited_for_a_dead_one_goes_when_it_is_skipped_from_now_on(
    make_app: AppFactory, renamed: dict[str, Any]
) -> None:
    book = Book(a1=99)
    async with make_app(module_of("bank", book.handler(when_dead="block"))) as app:
        await book.publish(app, "a1", "a2", "a3")
        await app.drained()
        assert await statuses(app) == ["dead", "blocked", "blocked"]
    async with make_app(module_of("bank", book.handler(**renamed))) as app:
        await app.drained()

        assert await effects(app) == [("a1", "a2"), ("a1", "a3")]


async def test_what_comes_waits_for_a_dead_one_that_is_skipped_no_more(make_app: AppFactory) -> None:
    book = Book(a1=99)
    async with make_app(module_of("bank", book.handler())) as app:
        await book.publish(app, "a1", "a2")
        await app.drained()
    async with make_app(module_of("bank", book.handler(when_dead="block"))) as app:
        await book.publish(app, "a3")
        await app.drained()

        assert await effects(app) == [("a1", "a2")]
        assert await statuses(app) == ["dead", "blocked"]


async def test_what_cannot_be_read_any_more_is_skipped_as_well(make_app: AppFactory) -> None:
    book = Book()
    async with make_app(module_of("bank", book.handler())) as app:
        app.pause("bank.book")
        await book.publish(app, "a1", "a2")
        await eventually(lambda: app.counters.total("parked", "bank.book") == 2)
        async with app.unit_of_work() as uow:
            parked = app.dead_letters._database.tables.parked
            await (await uow.session.connection()).execute(
                update(parked).where(parked.c.status == "retry").values(body=b"{")
            )
        app.resume("bank.book")
        await app.drained()

        assert await effects(app) == [("a1", "a2")]
        assert await statuses(app) == ["dead"]


async def test_what_is_quarantined_belongs_to_no_key(make_app: AppFactory) -> None:
    book = Book()
    known = book.event("a1")
    forged = known.model_copy(update={"text": "forged"})
    async with make_app(module_of("bank", book.handler())) as app:
        await arrive(app, envelope_of(known))
        await arrive(app, envelope_of(forged))
        await arrive(app, envelope_of(book.event("a2")))

        assert await effects(app) == [("", "a1"), ("", "a2")]
        assert [(letter.reason, letter.skipped) for letter in await app.dead_letters.list()] == [
            ("identity conflict", False)
        ]


async def test_a_blocking_handler_is_told_too(make_app: AppFactory) -> None:
    book, contexts = Book(), list[MessageContext]()

    class Send(IntegrationEventHandler[NotedV1]):
        blocking, ordering, when_dead, retry = True, "key", "skip", at_once(1)

        def __init__(self, context: MessageContext) -> None:
            self.context = context

        def handle(self, event: NotedV1) -> None:
            if event.text == "a1":
                raise LookupError
            contexts.append(self.context)

    async with make_app(module_of("mail", Send)) as app:
        await book.publish(app, "a1", "a2")
        await app.drained()

        assert [book.named(context.skipped) for context in contexts] == ["a1"]
        assert app.counters.total("handled", "mail.send") == 1


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_batch_goes_on_without_its_dead(make_app: AppFactory, attempts: int) -> None:
    book = Book(a2=99)
    handler = book.handler(max_batch=100, concurrency=1, attempts=attempts)
    async with make_app(module_of("mail", handler)) as app:
        events = [book.event(text, text[0]) for text in ("a1", "a2", "b1", "a3", "a4")]
        await arrive_at_once(app, *(envelope_of(one) for one in events))
        await app.drained()
        await arrive_at_once(app, *(envelope_of(book.event(text)) for text in ("a5", "a6")))

        told = sorted(await effects(app), key=lambda effect: effect[1])
        assert told == [("", "a1"), *(("a2", text) for text in ("a3", "a4", "a5", "a6")), ("", "b1")]
        assert await statuses(app) == ["dead"]


async def test_in_a_batch_events_without_a_key_know_nothing_of_one_another(make_app: AppFactory) -> None:
    book = Book(x=99)
    chosen: Any = {"ordering": "key", "when_dead": "skip", "retry": at_once(1), "max_batch": 100, "concurrency": 1}
    async with make_app(module_of("mail", listener("Send", book, RemarkedV1, **chosen))) as app:
        await arrive_at_once(app, *(envelope_of(RemarkedV1(text=text)) for text in "wxy"))

        assert sorted(await effects(app)) == [("", "w"), ("", "y")]


async def test_those_after_a_dead_one_of_their_batch_stay_in_its_transaction(make_app: AppFactory) -> None:
    sessions, book = [], Book(a1=99)

    def react(handler: Any, event: NotedV1) -> None:
        sessions.append(handler.session)
        book(handler, event)

    chosen: Any = {"ordering": "key", "when_dead": "skip", "retry": at_once(1), "max_batch": 100, "concurrency": 1}
    async with make_app(module_of("mail", listener("Send", react, **chosen))) as app:
        await arrive_at_once(app, *(envelope_of(book.event(text)) for text in ("a1", "a2", "a3")))

        assert await effects(app) == [("a1", "a2"), ("a1", "a3")]
        # The one that was rolled back, and the one that parked a1.
        assert len({id(session) for session in sessions}) == 2


@pytest.mark.databases("postgresql", "mariadb")
async def test_what_is_parked_in_the_moment_in_which_the_one_before_it_dies_elsewhere_goes_on(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_ORPHANS_EVERY_SECONDS", 0.1)
    book, retried, parked, dead = Book(a1=99), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def react(handler: Any, event: NotedV1) -> None:
        if event.text == "a1" and handler.context.attempt == 2:
            retried.set()
            await parked.wait()
        book(handler, event)

    async def until_it_is_dead() -> None:
        parked.set()
        await dead.wait()

    chosen: Any = {"ordering": "key", "when_dead": "skip", "retry": at_once(2)}
    here = make_app(module_of("bank", listener("Book", react, **chosen)))
    elsewhere = make_app(module_of("bank", book.handler()))
    async with here, elsewhere:
        # What arrives at a handler that rests is parked, and nothing else is committed there.
        elsewhere.pause("bank.book")
        elsewhere.pause("@relay")
        await arrive(here, envelope_of(book.event("a1")))
        await retried.wait()
        commits = elsewhere.dead_letters._database.writer.sync_engine
        event.listen(commits, "commit", lambda _: await_only(until_it_is_dead()))
        arriving = asyncio.ensure_future(arrive(elsewhere, envelope_of(book.event("a2"))))
        await eventually(here.dead_letters.list)
        dead.set()
        await arriving
        await eventually(lambda: effects(here))

        assert await effects(here) == [("a1", "a2")]
        assert await statuses(here) == ["dead"]


class Model:
    """What was published and decided on, and what has to come of it."""

    def __init__(self, random: Random, book: Book) -> None:
        self._random, self._book = random, book
        self.published = defaultdict[str, list[str]](list)
        self.replayed, self.discarded = set[str](), set[str]()

    async def publish(self, app: MediatorApp) -> None:
        events = []
        for key in self._random.choices("abc", k=self._random.randrange(1, 5)):
            text = f"{key}{len(self.published[key]):02}"
            self._book.wrong[text] = self._random.choice([0, 0, 0, 1, 2, 99])
            self.published[key].append(text)
            events.append(self._book.event(text, account=key))
        await app.publish_in_own_transaction(*events)

    async def act_on_dead_letters(self, app: MediatorApp) -> None:
        for letter in await app.dead_letters.list():
            text = text_of(letter)
            if self._random.random() < 0.7:
                self._book.wrong[text] = self._random.randrange(5)
                self.replayed.add(text)
                await app.dead_letters.replay(letter.position)
            else:
                self.discarded.add(text)
                await app.dead_letters.discard(letter.position, reason="test")

    def check(self, done: Sequence[tuple[str, str]], dead: Iterable[str]) -> None:
        """`done` are the effects, each after what was skipped."""
        every = {text for texts in self.published.values() for text in texts}
        assert {text for _, text in done} | self.discarded | set(dead) == every
        for key in self.published:
            self._check_key(key, [(set(skipped.split()), text) for skipped, text in done if text[0] == key])

    def _check_key(self, key: str, done: Sequence[tuple[set[str], str]]) -> None:
        handled = [text for _, text in done]
        live = [text for text in handled if text not in self.replayed]
        assert live == sorted(live)
        for number, (skipped, text) in enumerate(done):
            before = set(self.published[key][: self.published[key].index(text)])
            missing = before - set(handled[:number])
            # What a person decided on in that moment was there still, or not any more.
            assert missing - self.discarded <= skipped, text
            assert skipped <= missing | (before & (self.discarded | self.replayed)), text


@pytest.mark.parametrize(("seed", "max_batch", "processes"), [(1, 1, 1), (2, 10, 1), (3, 1, 2), (4, 10, 2)])
async def test_each_key_is_in_order_but_for_the_dead_and_its_handler_is_told_which(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch, seed: int, max_batch: int, processes: int
) -> None:
    """Against a model: what is handled live is in order and told what is missing, and nothing waits for ever."""
    monkeypatch.setattr(retries, "_ORPHANS_EVERY_SECONDS", 0.2)
    random, book = Random(seed), Book()
    model = Model(random, book)
    # With a pause, so that one process does not take what the other one has just begun with.
    chosen: Any = {"retry": RetryPolicy.fixed(3, timedelta(milliseconds=50)), "max_batch": max_batch}
    handlers = [book.handler(**chosen) for _ in range(processes)]

    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(make_app(module_of("bank", handler))) for handler in handlers]
        for _ in range(20):
            app = random.choice(apps)
            await model.publish(app)
            match random.randrange(12):
                case 0:
                    await model.act_on_dead_letters(app)
                case 1:
                    app.pause("bank.book")
                case 2 | 3:
                    app.resume("bank.book")
        for app in apps:
            app.resume("bank.book")
        await apps[0].drained(timedelta(seconds=90))
        await eventually(lambda: nothing_waits(apps[0]))
        done, letters = await effects(apps[0]), await apps[0].dead_letters.list()

    assert any(skipped for skipped, _ in done)
    model.check(done, map(text_of, letters))


def text_of(letter: DeadLetter) -> str:
    return NotedV1.model_validate_json(letter.body).text


async def nothing_waits(app: MediatorApp) -> bool:
    return set(await statuses(app)) <= {"dead", "discarded"}
