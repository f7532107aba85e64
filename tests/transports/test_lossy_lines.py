"""Every transport on a line that stalls, is cut, and loses answers, while it publishes and consumes.

What a broker confirms and nobody hears is published again. So events come twice, with the same id; what must not be is
that one is lost that was confirmed, that a key loses its order, that somebody waits for ever, or that what is waited
for piles up.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio

from mediator.errors import TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Subscription, Transport
from mediator.transports import transport_for
from tests.support.brokers import BROKERS, Brokers
from tests.support.databases import Servers
from tests.support.envelopes import GROUP, TOPIC, acknowledge, envelope
from tests.support.own_kafka import KafkaServer
from tests.support.proxy import Proxy

DEADLINES = {
    "sql": "mediator.transports.sql.transport._PUBLISH_SECONDS",
    "redis": "mediator.transports.redis.transport._PUBLISH_SECONDS",
    "rabbitmq": "mediator.transports.rabbitmq.publishing._DEADLINE_SECONDS",
    "nats": "mediator.transports.nats.publishing._DEADLINE_SECONDS",
    "kafka": "mediator.transports.kafka.publishing._DEADLINE_SECONDS",
}
DEADLINE, LENIENCE, STALL = 1.5, 1.5, 4.0
"""Seconds: of a publication, what a busy machine adds to it, and for how long nothing passes."""
SOON = 10.0
"""Seconds within which everything goes on."""
BATCH, PREFETCH, LANES = 20, 50, 4
MOST_PENDING = 2 * BATCH + 2 * max(PREFETCH, LANES * 50)
"""Objects that may wait for something, however long the line is broken: a batch, and what has been received."""
MOST_CONNECTIONS = 20
"""More than the pools of two processes hold."""
LEFT = BATCH
"""Objects that may be left when nothing waits any more: what a task had in its hand last."""
KEYS = [f"order-{number}" for number in range(7)]


@dataclass
class Record:
    """What was sent, confirmed and received."""

    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Key and number of each id."""
    confirmed: set[str] = field(default_factory=set)
    came: list[tuple[str, str | None, int]] = field(default_factory=list)
    """Id, key and number of each delivery."""
    unknown: int = 0
    longest: float = 0.0
    pending: int = 0
    """The most objects that were alive when somebody counted."""

    @property
    def arrived(self) -> set[str]:
        return {event_id for event_id, _, _ in self.came}

    def in_order(self) -> dict[str | None, list[int]]:
        """The numbers of each key, each where it came first."""
        found: dict[str | None, list[int]] = {}
        for key, number in dict.fromkeys((key, number) for _, key, number in self.came):
            found.setdefault(key, []).append(number)
        return found


@pytest.fixture(autouse=True)
def _only_what_is_new() -> Iterator[None]:
    """To look through what thousands of tests have left in the process would take longer than a publication may."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive() -> int:
    """How many envelopes and deliveries somebody holds on to, of those that are new."""
    gc.collect()
    return sum(type(one) in (Envelope, Delivery) for one in gc.get_objects())


def tasks() -> int:
    """How many there are, besides those of the line itself."""
    names = (str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks())
    return sum(not name.startswith(("Proxy.", "_Connection.")) for name in names)


@pytest.fixture(params=BROKERS)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each broker in turn, with publications that wait for less long than usual."""
    name: str = request.param
    monkeypatch.setattr(DEADLINES[name], DEADLINE)
    return name


@pytest.fixture
def place(name: str, brokers: Brokers, servers: Servers, tmp_path: Path) -> Iterator[str | KafkaServer]:
    """The URL of a place of the test's own; Kafka tells its clients where it is, so it has to know of the proxy."""
    with ExitStack() as stack:
        if name == "sql":
            yield stack.enter_context(servers.new_database("postgresql", tmp_path))
        elif name == "kafka":
            yield stack.enter_context(KafkaServer())
        else:
            yield stack.enter_context(brokers.new_place(name)).url


@pytest_asyncio.fixture
async def proxy(place: str | KafkaServer) -> AsyncIterator[Proxy]:
    async with Proxy(place if isinstance(place, str) else place.url()) as proxy:
        if isinstance(place, KafkaServer):
            place.advertised = int(proxy.url.rpartition(":")[2])
            place.start()
        yield proxy


@pytest_asyncio.fixture
async def ends(name: str, proxy: Proxy) -> AsyncIterator[tuple[Transport, Subscription]]:
    """Who publishes, and who consumes, in a process of its own."""
    url = f"sql+{proxy.url}" if name == "sql" else proxy.url.partition("?")[0]
    query = proxy.url.partition("?")[2].replace("lanes=8", f"lanes={LANES}")
    transports = [transport_for(f"{url}?{query or f'lanes={LANES}'}") for _ in range(2)]
    for transport in transports:
        await transport.open()
    await transports[0].provision([TOPIC], {GROUP: [TOPIC]})
    subscription = await transports[1].subscribe(GROUP, [TOPIC], PREFETCH)
    await subscription.take(range(LANES))
    yield transports[0], subscription
    async with asyncio.timeout(SOON):
        await subscription.close()
        for transport in transports:
            await transport.close()


async def relay(transport: Transport, record: Record, is_over: asyncio.Event) -> None:
    """Publish as a relay does: what was not confirmed goes again, before anything else, with the same id."""
    waiting: list[Envelope] = []
    while waiting or not is_over.is_set():
        while len(waiting) < BATCH and not is_over.is_set():
            key, number = KEYS[len(record.sent) % len(KEYS)], len(record.sent)
            waiting.append(envelope(str(number), key=key))
            record.sent[str(waiting[-1].event_id)] = key, number
        began, confirmed = monotonic(), set[str]()
        async for sent, error in transport.publish(waiting):
            assert error is None or isinstance(error, TransportUnavailableError), error
            if error is None:
                confirmed.add(str(sent.event_id))
        record.longest = max(record.longest, monotonic() - began)
        record.unknown += len(waiting) - len(confirmed)
        record.confirmed |= confirmed
        waiting = [sent for sent in waiting if str(sent.event_id) not in confirmed]
        await asyncio.sleep(0.05 if waiting else 0.005)


async def consume(subscription: Subscription, record: Record) -> None:
    while True:
        found = await subscription.fetch(30, timedelta(milliseconds=200))
        record.came += [(str(one.event_id), one.key, int(one.body)) for one in found]
        await acknowledge(subscription, *found)


@asynccontextmanager
async def at_work(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that do not outlive the block."""
    started = [asyncio.create_task(one) for one in work]
    try:
        yield started
    finally:
        for task in started:
            task.cancel()
        await asyncio.wait(started)


async def stall(proxy: Proxy, record: Record) -> None:
    await asyncio.sleep(0.3)
    proxy.hold()
    await asyncio.sleep(STALL)
    record.pending = max(record.pending, alive())
    proxy.release()


async def cut(proxy: Proxy, record: Record) -> None:
    for number in range(8):
        await asyncio.sleep(0.2)
        proxy.cut(reset=number % 2 == 0)
        record.pending = max(record.pending, alive())


async def lose_answers(proxy: Proxy, record: Record) -> None:
    for _ in range(6):
        await asyncio.sleep(0.4)
        if proxy.commits:
            # Where it is a transaction that is confirmed, hardly anything else of it takes time.
            await proxy.cut_after_commit(of="mediator_deliveries").happened()
            continue
        before = proxy.swallowed
        proxy.swallow()
        async with asyncio.timeout(SOON):
            while proxy.swallowed == before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        proxy.cut()
        record.pending = max(record.pending, alive())


@pytest.mark.parametrize("break_it", [stall, cut, lose_answers])
async def test_nothing_is_lost_on_a_line_that_breaks(
    ends: tuple[Transport, Subscription], proxy: Proxy, break_it: Callable[[Proxy, Record], Awaitable[None]]
) -> None:
    transport, subscription = ends
    record, is_over = Record(), asyncio.Event()
    before, busy = alive(), tasks()
    async with at_work(relay(transport, record, is_over), consume(subscription, record)) as (relaying, _):
        await break_it(proxy, record)
        healed, sent = monotonic(), len(record.sent)
        try:
            async with asyncio.timeout(2 * SOON):
                while len(record.sent) < sent + 2 * BATCH:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                is_over.set()
                await relaying
                while len(record.arrived) < len(record.sent):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
        except TimeoutError:
            lost = len(record.confirmed - record.arrived)
            pytest.fail(f"{len(record.confirmed)} of {len(record.sent)} were confirmed, {lost} of them did not come")
        took = monotonic() - healed

    assert record.unknown, "it was to be broken in the middle of publishing"
    assert record.arrived == record.confirmed == record.sent.keys()
    assert {event_id: (key, number) for event_id, key, number in record.came} == record.sent
    assert record.in_order() == {key: [n for k, n in record.sent.values() if k == key] for key in KEYS}
    assert record.longest < DEADLINE + LENIENCE
    assert took < SOON
    assert record.pending - before <= MOST_PENDING
    del relaying, _
    assert alive() - before <= LEFT
    assert tasks() <= busy + LANES
    assert proxy.connections <= MOST_CONNECTIONS
    if break_it is lose_answers:
        assert len(record.came) > len(record.sent), "what was confirmed to nobody was there, and came again"
