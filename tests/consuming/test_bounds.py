import asyncio
import threading
from types import new_class
from typing import Any
from zlib import crc32

import pytest

from contracts import partition_key_of
from mediator import IntegrationEventHandler, MediatorSettings
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
    keys = keys_of_lanes(concurrency)

    async with make_app(module_of("mail", Busy), settings=eager_settings()) as app:
        await app.publish_in_own_transaction(*(NotedV1(account=key) for key in keys * 5))
        await app.drained()

        assert most == concurrency
        assert app.counters.total("handled") == len(keys) * 5


def keys_of_lanes(number: int) -> list[str]:
    """One account for each lane."""
    found: dict[int, str] = {}
    for account in map(str, range(1_000)):
        key = partition_key_of(NotedV1(account=account)) or ""
        found.setdefault(crc32(key.encode()) % number, account)
    return list(found.values())


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
