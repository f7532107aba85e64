import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mediator import PermanentError, RetryPolicy
from mediator.storage.tables import Tables
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, Effect, effects, module_of, quick_settings
from tests.support.databases import execute


class Failing:
    """Fails as often as it is told to, and remembers the number of each attempt."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.times, self.error, self.attempts = times, error or LookupError("no such account"), list[int]()

    def __call__(self, handler: object, event: NotedV1) -> None:
        self.attempts.append(handler.context.attempt)  # type: ignore[attr-defined]
        writes(handler, event)
        if len(self.attempts) <= self.times:
            raise self.error


async def test_a_failing_handler_is_tried_again_until_it_succeeds(make_app: AppFactory) -> None:
    failing = Failing(2)

    async with make_app(module_of("mail", listener("Send", failing, retry=at_once(5)))) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert failing.attempts == [1, 2, 3]
        assert await effects(app) == [("Send", "x")]
        assert await rows(app, "parked") == []
        assert await app.dead_letters.list() == []


async def test_after_the_last_attempt_it_is_dead(make_app: AppFactory) -> None:
    failing = Failing(99)

    async with make_app(module_of("mail", listener("Send", failing, retry=at_once(3)))) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert failing.attempts == [1, 2, 3]
        assert await effects(app) == []
        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.attempts, letter.reason) == ("mail.send", 3, "failed")
        assert letter.error == "no such account"
        assert letter.error_type == "builtins.LookupError"
        assert letter.traceback is not None
        assert "raise self.error" in letter.traceback


async def test_handlers_of_one_event_fail_by_themselves(make_app: AppFactory) -> None:
    failing, other = Failing(2), Failing(0)
    mail = module_of("mail", listener("Send", failing, retry=at_once(5)), listener("Count", other))

    async with make_app(mail) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert (failing.attempts, other.attempts) == ([1, 2, 3], [1])
        assert sorted(await effects(app)) == [("Count", "x"), ("Send", "x")]


class TestPermanent:
    @pytest.mark.parametrize("error", [PermanentError("never"), type("GoneError", (PermanentError,), {})("never")])
    async def test_a_permanent_error_is_dead_at_once(self, make_app: AppFactory, error: PermanentError) -> None:
        failing = Failing(99, error)

        async with make_app(module_of("mail", listener("Send", failing, retry=at_once(5)))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert failing.attempts == [1]
            (letter,) = await app.dead_letters.list()
            assert (letter.attempts, letter.error) == (1, "never")

    async def test_so_is_what_the_policy_names(self, make_app: AppFactory) -> None:
        failing = Failing(99, UnicodeError("no text"))
        policy = at_once(5, permanent=(KeyError, ValueError))

        async with make_app(module_of("mail", listener("Send", failing, retry=policy))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert failing.attempts == [1]

    async def test_a_permanent_error_in_a_retry(self, make_app: AppFactory) -> None:
        attempts: list[int] = []

        def react(handler: object, _event: NotedV1) -> None:
            attempts.append(1)
            raise LookupError("first") if len(attempts) == 1 else PermanentError("then")

        async with make_app(module_of("mail", listener("Send", react, retry=at_once(5)))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert len(attempts) == 2
            (letter,) = await app.dead_letters.list()
            assert letter.error == "then"

    async def test_never_means_one_attempt(self, make_app: AppFactory) -> None:
        failing = Failing(99)

        async with make_app(module_of("mail", listener("Send", failing, retry=RetryPolicy.never()))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert failing.attempts == [1]


class TestRestart:
    async def test_retries_go_on_where_they_were(self, make_app: AppFactory, database_url: str) -> None:
        first, second = Failing(99), Failing(1)
        later = RetryPolicy.fixed(4, timedelta(minutes=1))

        async with make_app(module_of("mail", listener("Send", first, retry=later))) as app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await eventually(lambda: app.counters.total("parked", "mail.send"))
        # The database's clock cannot be turned; what is due can.
        execute(database_url, "UPDATE mediator_parked SET next_attempt_at = 0")
        assert first.attempts == [1]

        async with make_app(module_of("mail", listener("Send", second, retry=at_once(4)))) as app:
            await app.drained()

            assert second.attempts == [2, 3]
            assert await effects(app) == [("Send", "x")]

    async def test_the_limit_counts_attempts_of_all_runs(self, make_app: AppFactory, database_url: str) -> None:
        failing = Failing(99)

        async with make_app(
            module_of("mail", listener("Send", failing, retry=RetryPolicy.fixed(3, timedelta(hours=1))))
        ) as app:
            await app.publish_in_own_transaction(NotedV1())
            await eventually(lambda: app.counters.total("parked", "mail.send"))
        execute(database_url, "UPDATE mediator_parked SET next_attempt_at = 0")
        async with make_app(module_of("mail", listener("Send", failing, retry=at_once(3)))) as app:
            await app.drained()

            assert failing.attempts == [1, 2, 3]
            assert len(await app.dead_letters.list()) == 1


class TestTimeout:
    @pytest.mark.parametrize("hides", [False, True], ids=["cancelled", "hides the cancellation"])
    async def test_a_handler_that_takes_too_long_is_rolled_back_and_tried_again(
        self, make_app: AppFactory, hides: bool
    ) -> None:
        attempts: list[int] = []

        async def slow(handler: object, event: NotedV1) -> None:
            attempts.append(handler.context.attempt)  # type: ignore[attr-defined]
            handler.session.add(Effect(what="slow", detail=str(len(attempts))))  # type: ignore[attr-defined]
            if len(attempts) == 1:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if not hides:
                        raise

        handler = listener("Send", slow, timeout=timedelta(seconds=1), retry=at_once(3))
        async with make_app(module_of("mail", handler)) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert attempts == [1, 2]
            assert await effects(app) == [("slow", "2")]

    async def test_the_dead_letter_says_so(self, make_app: AppFactory) -> None:
        async def slow(_handler: object, _event: NotedV1) -> None:
            await asyncio.Event().wait()

        handler = listener("Send", slow, timeout=timedelta(milliseconds=20), retry=at_once(1))
        async with make_app(module_of("mail", handler)) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert letter.error_type == "mediator.errors.HandlerTimeoutError"
            assert letter.error is not None
            assert letter.error.startswith("mail.send took longer than 0.02 s and was rolled back")

    async def test_a_handlers_own_timeout_is_an_error_like_any_other(self, make_app: AppFactory) -> None:
        failing = Failing(99, TimeoutError("mail server"))

        async with make_app(module_of("mail", listener("Send", failing, retry=at_once(2)))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert letter.error_type == "builtins.TimeoutError"
            assert letter.attempts == 2

    async def test_a_cancellation_of_the_handlers_own_is_a_failure_not_a_success(self, make_app: AppFactory) -> None:
        failing = Failing(99, asyncio.CancelledError())

        async with make_app(module_of("mail", listener("Send", failing, retry=at_once(2)))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()

            assert failing.attempts == [1, 2]
            assert await effects(app) == []
            assert len(await app.dead_letters.list()) == 1


async def test_an_error_with_a_policy_of_its_own_is_tried_as_often_as_that_says(make_app: AppFactory) -> None:
    failing, patient = Failing(99, KeyError("x")), Failing(5, OSError("busy"))
    policy = at_once(3).on(OSError, at_once(10)).on(KeyError, RetryPolicy.never())
    mail = module_of("mail", listener("Send", failing, retry=policy), listener("Count", patient, retry=policy))

    async with make_app(mail) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert failing.attempts == [1]
        assert patient.attempts == [1, 2, 3, 4, 5, 6]
        assert await effects(app) == [("Count", "x")]
        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.attempts) == ("mail.send", 1)


def cancels_at_once(task: asyncio.Task[Any]) -> Any:
    task.cancel()
    return asyncio.sleep(0)


def cancels_at_the_end(task: asyncio.Task[Any]) -> None:
    task.cancel()


def cancels_later(task: asyncio.Task[Any]) -> None:
    """As a timer does that nobody took back."""
    asyncio.get_running_loop().call_later(0.05, task.cancel)


@pytest.mark.every_database
@pytest.mark.parametrize("cancels", [cancels_at_once, cancels_at_the_end, cancels_later])
async def test_a_library_that_cancels_its_own_task_does_not_end_the_lane(
    make_app: AppFactory, cancels: Callable[[asyncio.Task[Any]], Any]
) -> None:
    tasks = list[asyncio.Task[Any]]()

    def react(handler: object, event: NotedV1) -> Any:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        writes(handler, event)
        return cancels(task) if event.text == "1" and tasks.count(task) == len(tasks) else None

    send = listener("Send", react, concurrency=1, ordering="key", retry=at_once(3))
    async with make_app(module_of("mail", send)) as app:
        for number in range(1, 4):
            await app.publish_in_own_transaction(NotedV1(text=str(number)))
        await app.drained()
        await eventually(tasks[0].done)
        await app.publish_in_own_transaction(NotedV1(text="4"))
        await app.drained()

        assert await effects(app) == [("Send", str(number)) for number in range(1, 5)]
        assert await app.dead_letters.list() == []


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
async def test_a_retry_that_waits_for_a_connection_is_not_counted_and_left_to_others(make_app: AppFactory) -> None:
    mail = module_of("mail", listener("Send", Failing(1), retry=RetryPolicy.fixed(2, timedelta(milliseconds=20))))
    settings = quick_settings(database={"connections": 1})

    async with make_app(mail, settings=settings) as app:
        retries = app._started("the test").retries[0]
        await app.publish_in_own_transaction(NotedV1(text="x"))
        async with app.unit_of_work() as uow:
            await eventually(lambda: app.counters.total("parked", "mail.send"))
            await uow.session.connection()
            await eventually(lambda: retries._running)
            await asyncio.sleep(0.1)
            async with make_app(mail) as other:
                await eventually(lambda: other.counters.total("handled", "mail.send"))
        await app.drained()

        assert await effects(app) == [("Send", "x")]
        assert await app.dead_letters.list() == []


async def test_a_retry_that_was_counted_and_has_not_begun_is_left_alone_whatever_the_policy(
    make_app: AppFactory, database_url: str
) -> None:
    """On SQLite it waits for the one writer then, and another process took it for crashed."""
    failing, went_on = Failing(1), asyncio.Event()

    async def react(handler: object, event: NotedV1) -> None:
        failing(handler, event)
        await went_on.wait()

    async with make_app(module_of("mail", listener("Send", react, retry=at_once(2)))) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await eventually(lambda: failing.attempts == [1, 2])
        ((due_at,),) = execute(database_url, select(Tables().parked.c.next_attempt_at))
        went_on.set()
        await app.drained()

        assert due_at > datetime.now(UTC) + timedelta(seconds=2)
        assert await effects(app) == [("Send", "x")]


@pytest.mark.databases("postgresql", "mariadb")
async def test_a_handler_that_hangs_does_not_keep_the_others_from_their_retries(make_app: AppFactory) -> None:
    hangs, failed = asyncio.Event(), set[str]()

    async def hang(handler: object, event: NotedV1) -> None:
        if event.text not in failed:
            failed.add(event.text)
            raise LookupError("not yet")
        await hangs.wait()

    def fails_once(handler: object, event: NotedV1) -> None:
        writes(handler, event)
        if handler.context.attempt == 1:  # type: ignore[attr-defined]
            raise LookupError("not yet")

    later = RetryPolicy.fixed(2, timedelta(milliseconds=300))
    mail = module_of(
        "mail", listener("Send", hang, retry=at_once(2)), listener("Count", fails_once, concurrency=2, retry=later)
    )
    settings = quick_settings(consumer={"retries_at_once": 4}, database={"connections": 30})
    async with make_app(mail, settings=settings) as app:
        for number in range(20):
            await app.publish_in_own_transaction(NotedV1(account=str(number), text=str(number)))
        await eventually(lambda: app.counters.total("handled", "mail.count") == 20)
        assert app.counters.total("handled", "mail.send") == 0
        hangs.set()
        await app.drained()


async def test_the_waiting_time_comes_from_the_handlers_policy(make_app: AppFactory) -> None:
    mail = module_of(
        "mail",
        listener("Soon", Failing(1), retry=at_once(2)),
        listener("Late", Failing(1), retry=RetryPolicy.fixed(2, timedelta(hours=1))),
    )

    async with make_app(mail) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await eventually(lambda: app.counters.total("handled", "mail.soon"))

        await eventually(lambda: app.counters.total("parked", "mail.late"))
        (row,) = await rows(app, "parked")
        assert (row.subscriber_id, row.status, row.attempts) == ("mail.late", "retry", 1)
        wait = row.next_attempt_at - row.parked_at
        assert timedelta(minutes=59) < (wait if isinstance(wait, timedelta) else timedelta(milliseconds=wait))
