"""Leaving the application: what is under way finishes within its time, the rest is given back and costs no attempt."""

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from mediator import Command, CommandHandler, IntegrationEventHandler, Mediator, MediatorApp
from mediator.messaging.transport import Delivery
from mediator.storage.dead_letters import DeadLetterTable
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of, quick_settings
from tests.support.interruptions import Interruption
from tests.support.proxy import Proxy


class Held:
    """A handler that stays inside until it is let go."""

    def __init__(self) -> None:
        self.entered, self.leave, self.attempts = asyncio.Event(), asyncio.Event(), list[int]()

    async def __call__(self, handler: object, event: NotedV1) -> None:
        self.attempts.append(handler.context.attempt)  # type: ignore[attr-defined]
        self.entered.set()
        writes(handler, event)
        await self.leave.wait()


async def stop_while_held(app: MediatorApp, held: Held) -> None:
    """Leave the application, and let the handler go once the stop has begun."""

    async def leave() -> None:
        await eventually(lambda: app._started("test").retries[0]._stopping)
        held.leave.set()

    letting_go = asyncio.create_task(leave())
    await app.__aexit__(None, None, None)
    await letting_go


async def test_what_is_under_way_finishes(make_app: AppFactory) -> None:
    held = Held()
    app = make_app(module_of("mail", listener("Send", held)))
    await app.__aenter__()
    await app.publish_in_own_transaction(NotedV1(text="x"))
    await held.entered.wait()

    await stop_while_held(app, held)

    async with make_app(module_of("mail", listener("Send", held))) as again:
        await again.drained()
        assert await effects(again) == [("Send", "x")]
        assert await rows(again, "outbox") == []
        assert held.attempts == [1]


async def test_a_retry_under_way_finishes_too(make_app: AppFactory) -> None:
    held, failed = Held(), False

    async def react(handler: object, event: NotedV1) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise LookupError("not yet")
        await held(handler, event)

    handler = listener("Send", react, retry=at_once(3))
    app = make_app(module_of("mail", handler))
    await app.__aenter__()
    await app.publish_in_own_transaction(NotedV1(text="x"))
    await held.entered.wait()

    await stop_while_held(app, held)

    assert held.attempts == [2]
    async with make_app(module_of("mail", handler)) as again:
        await again.drained()
        assert await effects(again) == [("Send", "x")]
        assert held.attempts == [2]


@pytest.mark.parametrize("number", [1, 30])
async def test_what_does_not_finish_in_time_is_given_back_and_costs_no_attempt(
    make_app: AppFactory, number: int
) -> None:
    held = Held()
    settings = quick_settings(drain_on_stop=timedelta(milliseconds=20))
    handler = listener("Send", held, retry=at_once(1))
    events = [NotedV1(account=str(position), text=f"{position:02}") for position in range(number)]

    async with make_app(module_of("mail", handler), settings=settings) as app:
        await app.publish_in_own_transaction(*events)
        await held.entered.wait()
    assert set(held.attempts) == {1}

    held.leave.set()
    async with make_app(module_of("mail", handler)) as again:
        await again.drained()
        assert sorted(await effects(again)) == [("Send", event.text) for event in events]
        assert await again.dead_letters.list() == []
        assert set(held.attempts) == {1}


async def test_an_interrupted_retry_costs_no_attempt(make_app: AppFactory) -> None:
    held, failed = Held(), False

    async def react(handler: object, event: NotedV1) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise LookupError("not yet")
        await held(handler, event)

    handler = listener("Send", react, retry=at_once(2))
    settings = quick_settings(drain_on_stop=timedelta(milliseconds=20))
    async with make_app(module_of("mail", handler), settings=settings) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await held.entered.wait()

    held.leave.set()
    async with make_app(module_of("mail", handler)) as again:
        await again.drained()
        assert await effects(again) == [("Send", "x")]
        assert held.attempts == [2, 2]


async def test_the_stop_ends_within_its_time_whatever_the_handlers_do(make_app: AppFactory) -> None:
    entered = asyncio.Event()

    async def stubborn(_handler: object, _event: NotedV1) -> None:
        entered.set()
        await asyncio.Event().wait()

    settings = quick_settings(drain_on_stop=timedelta(0))
    app = make_app(module_of("mail", listener("Send", stubborn, timeout=timedelta(hours=1))), settings=settings)
    async with asyncio.timeout(60):
        async with app:
            await app.publish_in_own_transaction(NotedV1())
            await entered.wait()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
@pytest.mark.parametrize("fails_before", [False, True])
async def test_the_stop_ends_when_connections_are_lost_meanwhile_and_costs_no_attempt(
    make_app: AppFactory, database_url: str, *, fails_before: bool
) -> None:
    held, failed = Held(), False

    async def react(handler: object, event: NotedV1) -> None:
        nonlocal failed
        if fails_before and not failed:
            failed = True
            raise LookupError("not yet")
        await held(handler, event)

    handler = listener("Send", react, retry=at_once(3))
    settings = quick_settings(drain_on_stop=timedelta(seconds=1))
    async with Proxy(database_url) as proxy:
        app = make_app(module_of("mail", handler), settings=settings, database=proxy.url)
        await app.__aenter__()
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await held.entered.wait()
        leaving = asyncio.create_task(app.__aexit__(None, None, None))
        await eventually(lambda: app._started("test").retries[0]._stopping)
        proxy.cut()
        done, _ = await asyncio.wait([leaving], timeout=30)

        assert done == {leaving}

    held.leave.set()
    async with make_app(module_of("mail", handler)) as again:
        await again.drained()
        assert await effects(again) == [("Send", "x")]
        assert set(held.attempts) == {2 if fails_before else 1}


@dataclass(frozen=True)
class Ping(Command[str]):
    pass


class PingHandler(CommandHandler[Ping, str]):
    async def handle(self, command: Ping) -> str:
        return "pong"


async def test_what_is_under_way_may_still_send_commands(make_app: AppFactory) -> None:
    held, answers = Held(), list[str]()

    class Send(IntegrationEventHandler[NotedV1]):
        retry = at_once(1)

        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, event: NotedV1) -> None:
            held.entered.set()
            await held.leave.wait()
            answers.append(await self.mediator.send(Ping()))

    app = make_app(module_of("mail", PingHandler, Send))
    await app.__aenter__()
    await app.publish_in_own_transaction(NotedV1())
    await held.entered.wait()

    await stop_while_held(app, held)

    assert answers == ["pong"]
    async with make_app(module_of("mail", PingHandler, Send)) as again:
        assert await again.dead_letters.list() == []


async def test_a_stop_that_is_cancelled_leaves_nothing_running(make_app: AppFactory) -> None:
    held, before = Held(), asyncio.all_tasks()
    app = make_app(
        module_of("mail", listener("Send", held)), settings=quick_settings(drain_on_stop=timedelta(minutes=10))
    )

    async def use() -> None:
        async with app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await held.entered.wait()

    using = asyncio.create_task(use())
    await held.entered.wait()
    consumer = app._started("test").consumers[0]
    await eventually(lambda: consumer._stopping)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using

    assert asyncio.all_tasks() == before
    held.leave.set()
    async with make_app(module_of("mail", listener("Send", held))) as again:
        await again.drained()
        assert await effects(again) == [("Send", "x")]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
async def test_a_retry_does_not_commit_after_the_stop_was_cancelled(make_app: AppFactory, number: int) -> None:
    held, failed, before = Held(), False, asyncio.all_tasks()

    async def react(handler: object, event: NotedV1) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise LookupError("not yet")
        await held(handler, event)

    settings = quick_settings(drain_on_stop=timedelta(minutes=10))
    app = make_app(module_of("mail", listener("Send", react, retry=at_once(3))), settings=settings)
    await app.__aenter__()
    await app.publish_in_own_transaction(NotedV1(text="x"))
    await held.entered.wait()
    running = app._started("test")
    leaving = asyncio.create_task(Interruption(number).of(app.__aexit__(None, None, None)))
    await eventually(lambda: leaving.done() or running.retries[0]._stopping)
    leaving.cancel()
    await asyncio.wait([leaving])

    assert leaving.cancelled()
    assert asyncio.all_tasks() == before
    assert running.services[0].relay._tasks
    assert all(task.done() for task in running.services[0].relay._tasks)


async def test_a_retry_costs_no_attempt_wherever_it_is_cancelled(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes, retry=at_once(2)))) as app:
        app.pause("mail.send")
        retries = app._started("test").retries[0]
        subscriber, _ = retries._subscribers["mail.send"]
        for number in range(1, 1_000):
            interruption = Interruption(number)
            await app.publish_in_own_transaction(NotedV1(text=str(number)))
            await app.drained()
            (row,) = await DeadLetterTable(retries._database).find(limit=1)
            received = retries._reader.read(
                Delivery(topic=row["topic"], headers=json.loads(row["headers"]), body=row["body"])
            )
            is_stopping = partial(getattr, interruption, "happened")
            attempt = interruption.of(retries._idempotent.retry(subscriber, received, row, is_stopping))
            await asyncio.gather(asyncio.create_task(attempt), return_exceptions=True)
            if not interruption.happened:
                break
            # Either it was too late to stop it, or it is as if it had never begun.
            for left in await rows(app, "parked"):
                assert (left.status, left.attempts) == ("retry", 0)
            await retries._idempotent.retry(subscriber, received, row, lambda: False)
        app.resume("mail.send")
        await app.drained()

        assert number > 5
        assert sorted(await effects(app)) == sorted(("Send", str(one)) for one in range(1, number + 1))
