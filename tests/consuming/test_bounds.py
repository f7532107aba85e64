import asyncio
import threading
from types import new_class
from typing import Any

import pytest

from mediator import IntegrationEventHandler, MediatorSettings, MessageContext
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of, quick_settings


def eager_settings(**changes: Any) -> MediatorSettings:
    """A relay that does not wait for the outcome of its first, small batches."""
    relay = {"ramp_patience": "PT0S", "poll": "PT0.05S", **changes.pop("relay", {})}
    return quick_settings(relay=relay, **changes)


class Gate:
    """Handlers wait here until it is opened; it knows how many were in at once.

    They are blocking handlers: any other holds SQLite's one write lock while it waits, and so everybody else.
    """

    def __init__(self) -> None:
        self.inside = self.most = self.entered = 0
        self.lock, self.opened = threading.Lock(), threading.Event()

    def handler(self, **attributes: Any) -> type[IntegrationEventHandler[NotedV1]]:
        def handle(_self: object, _event: NotedV1) -> None:
            self.come_in()

        namespace = {"handle": handle, "blocking": True, **attributes}
        return new_class("Slow", (IntegrationEventHandler[NotedV1],), exec_body=lambda body: body.update(namespace))

    def come_in(self) -> None:
        with self.lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)
        assert self.opened.wait(60)
        with self.lock:
            self.inside -= 1


def notes(number: int) -> list[NotedV1]:
    return [NotedV1(account=str(position), text=str(position)) for position in range(number)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_never_more_of_one_handler_at_once_than_it_allows(make_app: AppFactory, concurrency: int) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    class Busy(IntegrationEventHandler[NotedV1]):
        blocking = True

        def handle(self, event: NotedV1) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            barrier.wait(timeout=30)
            with lock:
                running -= 1

    # Nobody leaves before as many have come in as may be in at once, or all that there are.
    barrier = threading.Barrier(concurrency)
    Busy.concurrency = concurrency
    keys = [str(number) for number in range(concurrency)]

    async with make_app(module_of("mail", Busy), settings=eager_settings()) as app:
        await app.publish_in_own_transaction(*(NotedV1(account=key) for key in keys * 5))
        await app.drained()

        assert most == concurrency
        assert app.counters.total("handled") == len(keys) * 5


async def test_retries_count_as_well(make_app: AppFactory) -> None:
    running, most, failed = 0, 0, set[str]()

    async def react(_handler: object, event: NotedV1) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if event.text not in failed:
            failed.add(event.text)
            raise LookupError("once")

    handler = listener("Busy", react, concurrency=1, retry=at_once(3))
    async with make_app(module_of("mail", handler)) as app:
        await app.publish_in_own_transaction(*notes(30))
        await app.drained()

        assert app.counters.total("handled") == 30
        assert most == 1


async def test_no_more_is_taken_than_the_prefetch(make_app: AppFactory) -> None:
    gate = Gate()
    settings = eager_settings(consumer={"prefetch": 5})

    async with make_app(module_of("mail", gate.handler(concurrency=50)), settings=settings) as app:
        received: list[int] = []
        await app.publish_in_own_transaction(*notes(40))
        await eventually(lambda: gate.entered)
        (consumer,) = app._started("test").consumers
        await eventually(lambda: len(consumer._open) == 5)
        received.append(len(consumer._open))
        assert gate.most <= 5
        gate.opened.set()
        while not consumer.is_idle:
            received.append(len(consumer._open))
            await asyncio.sleep(0)
        await app.drained()

        assert max(received) == 5
        assert app.counters.total("handled") == 40


async def test_what_waits_stays_in_the_outbox_and_not_in_memory(make_app: AppFactory) -> None:
    gate = Gate()
    settings = eager_settings(consumer={"prefetch": 5}, relay={"in_flight": 10, "batch": 10})

    async with make_app(module_of("mail", gate.handler()), settings=settings) as app:
        await app.publish_in_own_transaction(*notes(100))
        await eventually(lambda: gate.entered)
        relay = app._started("test").services[0].relay
        await eventually(lambda: len(relay._in_flight) == 10)
        most = 0
        for _ in range(200):
            most = max(most, len(relay._in_flight))
            await asyncio.sleep(0)
        assert len(await rows(app, "outbox")) == 100
        gate.opened.set()
        await app.drained()

        assert most == 10
        assert app.counters.total("handled") == 100


async def test_a_slow_handler_does_not_hold_back_another(make_app: AppFactory) -> None:
    gate = Gate()

    async with make_app(
        module_of("mail", gate.handler()),
        module_of("audit", listener("Quick", writes)),
        settings=eager_settings(),
    ) as app:
        await app.publish_in_own_transaction(*notes(20))
        await eventually(lambda: app.counters.total("handled", "audit.quick") == 20)
        assert app.counters.total("handled", "mail.slow") == 0
        gate.opened.set()
        await app.drained()


async def test_retries_are_bounded_too(make_app: AppFactory) -> None:
    gate = Gate()
    settings = eager_settings(consumer={"retries_at_once": 4, "retry_poll": "PT0.05S"})

    async with make_app(module_of("mail", gate.handler(concurrency=50)), settings=settings) as app:
        app.pause("mail.slow")
        await app.publish_in_own_transaction(*notes(20))
        await eventually(lambda: app.counters.total("parked") == 20)
        app.resume("mail.slow")
        await eventually(lambda: gate.entered >= 1)
        (retries,) = app._started("test").retries
        await eventually(lambda: len(retries._running) == 4)
        assert gate.most <= 4
        gate.opened.set()
        await app.drained()

        assert app.counters.total("handled") == 20
        assert await effects(app) == []


async def test_an_event_that_hangs_holds_back_its_own_key_only(make_app: AppFactory) -> None:
    gate = Gate()

    class Slow(IntegrationEventHandler[NotedV1]):
        blocking = True
        concurrency = 2

        def handle(self, event: NotedV1) -> None:
            if event.text == "hangs":
                gate.come_in()

    async with make_app(module_of("mail", Slow), settings=eager_settings()) as app:
        await app.publish_in_own_transaction(NotedV1(account="hung", text="hangs"))
        await eventually(lambda: gate.entered)
        await app.publish_in_own_transaction(NotedV1(account="hung"), *notes(100))
        # Whichever way the keys are spread, those that stand beside the hanging one go on.
        await eventually(lambda: app.counters.total("handled", "mail.slow") == 100)
        gate.opened.set()
        await app.drained()

        assert app.counters.total("handled", "mail.slow") == 102
        assert app.counters.total("parked", "mail.slow") == 0


async def test_a_handler_that_hangs_altogether_leaves_the_room_to_the_others(make_app: AppFactory) -> None:
    gate = Gate()
    settings = eager_settings(
        consumer={"prefetch": 10, "set_aside_after": "PT0.05S"}, relay={"in_flight": 20, "batch": 20}
    )

    async with make_app(
        module_of("mail", gate.handler(concurrency=2, ordering="key"), listener("Quick", writes)), settings=settings
    ) as app:
        await app.publish_in_own_transaction(*notes(100))
        await app.publish_in_own_transaction(*(NotedV1(account="0", text=f"later {number}") for number in range(3)))
        # Of everything but what hangs, and what waits for its key.
        await eventually(lambda: app.counters.total("handled", "mail.quick") >= 98)
        assert app.counters.total("handled", "mail.slow") == 0
        gate.opened.set()
        await app.drained()

        assert app.counters.total("handled", "mail.slow") == 103
        assert app.counters.total("handled", "mail.quick") == 103
        assert gate.most <= 2


async def test_what_is_set_aside_costs_no_attempt_and_keeps_its_order(make_app: AppFactory) -> None:
    seen: list[tuple[str, int]] = []
    gate = Gate()

    class Slow(IntegrationEventHandler[NotedV1]):
        blocking = True
        concurrency = 1
        ordering = "key"

        def __init__(self, context: MessageContext) -> None:
            self.context = context

        def handle(self, event: NotedV1) -> None:
            seen.append((event.text, self.context.attempt))
            if event.text == "hangs":
                gate.come_in()

    settings = eager_settings(consumer={"set_aside_after": "PT0.05S"})
    async with make_app(module_of("mail", Slow), settings=settings) as app:
        await app.publish_in_own_transaction(NotedV1(account="other", text="hangs"))
        await eventually(lambda: gate.entered)
        await app.publish_in_own_transaction(*(NotedV1(account="mine", text=str(number)) for number in range(5)))
        await eventually(lambda: app.counters.total("parked", "mail.slow") == 5)
        gate.opened.set()
        await app.drained()

        assert seen == [("hangs", 1), *((str(number), 1) for number in range(5))]
