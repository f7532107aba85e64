import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import IntegrationEventHandler, IntegrationEventPublisher, MessageContext, Outgoing, Runtime
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, Effect, effects, module_of


async def test_one_handler_of_several_events(make_app: AppFactory) -> None:
    class Both(IntegrationEventHandler[NotedV1 | RemarkedV1]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: NotedV1 | RemarkedV1) -> None:
            self.session.add(Effect(what=type(event).__name__, detail=event.text))

    async with make_app(module_of("mail", Both)) as app:
        await app.publish_in_own_transaction(NotedV1(text="one"), RemarkedV1(text="two"))
        await app.drained()

        assert sorted(await effects(app)) == [("NotedV1", "one"), ("RemarkedV1", "two")]


async def test_several_handlers_of_one_event_in_one_module_and_in_two(make_app: AppFactory) -> None:
    mail = module_of("mail", listener("First", writes), listener("Second", writes))
    audit = module_of("audit", listener("Third", writes))

    async with make_app(mail, audit) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert sorted(await effects(app)) == [("First", "x"), ("Second", "x"), ("Third", "x")]
        assert {row.subscriber_id for row in await rows(app, "inbox")} == {"mail.first", "mail.second", "audit.third"}


async def test_a_plain_function_works_with_a_plain_session(make_app: AppFactory) -> None:
    class Plain(IntegrationEventHandler[NotedV1]):
        def __init__(self, session: Session) -> None:
            self.session = session

        def handle(self, event: NotedV1) -> RemarkedV1:
            self.session.add(Effect(what="written", detail=event.text))
            self.session.flush()
            found = self.session.exec(select(Effect)).all()
            return RemarkedV1(text=f"{len(found)} effects")

    async with make_app(module_of("mail", Plain, listener("Told", writes, RemarkedV1))) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("written", "x"), ("Told", "1 effects")]


class TestReturnedEvents:
    @pytest.mark.parametrize(
        ("returned", "told"),
        [
            (lambda: None, []),
            (lambda: RemarkedV1(text="one"), ["one"]),
            (lambda: [RemarkedV1(text="one"), RemarkedV1(text="two")], ["one", "two"]),
            (lambda: Outgoing(RemarkedV1(text="one"), headers={"tenant": "t"}), ["one"]),
            (lambda: (RemarkedV1(text=text) for text in ("one", "two")), ["one", "two"]),
        ],
        ids=["none", "one", "several", "outgoing", "generator"],
    )
    async def test_they_are_published(self, make_app: AppFactory, returned: object, told: list[str]) -> None:
        answer = listener("Answer", lambda _handler, _event: returned())  # type: ignore[operator]

        async with make_app(module_of("mail", answer, listener("Told", writes, RemarkedV1))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert sorted(detail for _, detail in await effects(app)) == told

    async def test_something_else_is_a_failure(self, make_app: AppFactory) -> None:
        answer = listener("Answer", lambda _handler, _event: 42, retry=at_once(1))

        async with make_app(module_of("mail", answer)) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert letter.error is not None
            assert "mail.answer cannot be published: it returned int" in letter.error

    async def test_they_carry_the_lineage_on(self, make_app: AppFactory) -> None:
        contexts: list[MessageContext] = []
        answer = listener("Answer", lambda _handler, _event: RemarkedV1())
        told = listener("Told", lambda handler, _event: contexts.append(handler.context), RemarkedV1)

        async with make_app(module_of("mail", answer, told)) as app:
            note = NotedV1(correlation_id="request-7")
            await app.publish_in_own_transaction(note)
            await app.drained()

            (context,) = contexts
            assert (context.correlation_id, context.causation_id) == ("request-7", str(note.event_id))


class TestOneTransaction:
    """Inbox row, effects and outbox rows of a handler are committed together, or none of them is."""

    async def test_when_it_commits_all_three_are_there(self, make_app: AppFactory) -> None:
        def work(handler: object, event: NotedV1) -> RemarkedV1:
            writes(handler, event)
            return RemarkedV1()

        async with make_app(module_of("mail", listener("Work", work))) as app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert [len(await rows(app, table)) for table in ("inbox", "sent")] == [1, 2]
            assert await effects(app) == [("Work", "x")]

    @pytest.mark.parametrize("place", ["inbox.after_insert", "handler.midway", "uow.after_outbox", "uow.before_commit"])
    async def test_when_it_fails_none_of_the_three_is_there(self, make_app: AppFactory, place: str) -> None:
        fails_next = [place == "inbox.after_insert"]

        def fail(here: str) -> None:
            if here == place and fails_next[0]:
                fails_next[0] = False
                raise OSError("disk full")

        def work(handler: object, event: NotedV1) -> RemarkedV1:
            # The publisher's own unit of work passed the same places before.
            fails_next[0] = True
            writes(handler, event)
            return RemarkedV1()

        handler = listener("Work", work, retry=at_once(1))

        async with make_app(module_of("mail", handler), runtime=Runtime(reached=fail)) as app:
            event = NotedV1(text="x")
            await app.publish_in_own_transaction(event)
            await app.drained()

            assert await effects(app) == []
            assert [row.event_id for row in await rows(app, "sent")] == [event.event_id]
            # What is left says so: the delivery that died.
            (letter,) = await app.dead_letters.list()
            assert letter.error == "disk full"

    async def test_a_commit_that_the_database_refuses(self, make_app: AppFactory) -> None:
        known = uuid4()

        def twice(handler: object, event: NotedV1) -> RemarkedV1:
            handler.session.add(Effect(id=1, what="twice", detail=str(known)))  # type: ignore[attr-defined]
            return RemarkedV1()

        async with make_app(module_of("mail", listener("Twice", twice, retry=at_once(1)))) as app:
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(id=1, what="first"))
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert letter.error_type is not None
            assert letter.error_type.endswith(IntegrityError.__name__)
            assert await effects(app) == [("first", "")]
            assert len(await rows(app, "sent")) == 1

    async def test_what_a_publisher_published_in_a_failing_handler_is_not_published(self, make_app: AppFactory) -> None:
        class Publish(IntegrationEventHandler[NotedV1]):
            retry = at_once(1)

            def __init__(self, publisher: IntegrationEventPublisher) -> None:
                self.publisher = publisher

            async def handle(self, event: NotedV1) -> None:
                self.publisher.publish(RemarkedV1(text="ghost"))
                raise ValueError("no")

        async with make_app(module_of("mail", Publish, listener("Told", writes, RemarkedV1))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert await effects(app) == []


class TestBlockingHandlers:
    async def test_it_runs_in_a_thread_and_its_events_are_published(self, make_app: AppFactory) -> None:
        threads: list[str] = []

        class Slow(IntegrationEventHandler[NotedV1]):
            blocking = True

            def __init__(self, context: MessageContext) -> None:
                self.context = context

            def handle(self, event: NotedV1) -> RemarkedV1:
                threads.append(threading.current_thread().name)
                return RemarkedV1(text=f"{event.text} {self.context.subscriber_id}")

        async with make_app(module_of("mail", Slow, listener("Told", writes, RemarkedV1))) as app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert threads != [threading.current_thread().name]
            assert await effects(app) == [("Told", "x mail.slow")]

    async def test_a_duplicate_is_skipped_before_it_runs(self, make_app: AppFactory) -> None:
        calls: list[str] = []

        class Slow(IntegrationEventHandler[NotedV1]):
            blocking = True

            def handle(self, event: NotedV1) -> None:
                calls.append(event.text)

        async with make_app(module_of("mail", Slow)) as app:
            event = NotedV1(text="x", correlation_id="c")
            for _ in range(3):
                await app.publish_in_own_transaction(event)
                await app.drained()

            assert calls == ["x"]
            assert app.counters.total("duplicate_skipped", "mail.slow") == 2

    async def test_it_is_tried_again(self, make_app: AppFactory) -> None:
        attempts: list[int] = []

        class Slow(IntegrationEventHandler[NotedV1]):
            blocking = True
            retry = at_once(3)

            def __init__(self, context: MessageContext) -> None:
                self.context = context

            def handle(self, event: NotedV1) -> RemarkedV1:
                attempts.append(self.context.attempt)
                if len(attempts) < 3:
                    raise ConnectionError("mail server away")
                return RemarkedV1(text="sent")

        async with make_app(module_of("mail", Slow, listener("Told", writes, RemarkedV1))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert attempts == [1, 2, 3]
            assert await effects(app) == [("Told", "sent")]

    async def test_it_holds_no_lock_while_it_runs(self, make_app: AppFactory) -> None:
        entered, leave = threading.Event(), threading.Event()

        class Slow(IntegrationEventHandler[NotedV1]):
            blocking = True

            def handle(self, event: NotedV1) -> None:
                entered.set()
                assert leave.wait(30)

        async with make_app(module_of("mail", Slow)) as app:
            await app.publish_in_own_transaction(NotedV1())
            await eventually(entered.is_set)
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what="meanwhile"))
            leave.set()
            await app.drained()

            assert await effects(app) == [("meanwhile", "")]

    async def test_its_retry_is_not_due_again_before_its_time_is_over(self, make_app: AppFactory) -> None:
        entered, leave = threading.Event(), threading.Event()
        began = datetime.now(UTC)

        class Slow(IntegrationEventHandler[NotedV1]):
            blocking = True
            retry = at_once(2)
            timeout = timedelta(hours=1)

            def __init__(self, context: MessageContext) -> None:
                self.context = context

            def handle(self, event: NotedV1) -> None:
                if self.context.attempt == 1:
                    raise ConnectionError("mail server away")
                entered.set()
                assert leave.wait(30)

        async with make_app(module_of("mail", Slow)) as app:
            await app.publish_in_own_transaction(NotedV1())
            await eventually(entered.is_set)
            (row,) = await rows(app, "parked")
            leave.set()
            await app.drained()

        # Another process would take it for crashed and run it a second time.
        assert row.next_attempt_at >= began + timedelta(hours=1)
