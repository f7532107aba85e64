"""How fast the transports publish and consume, next to the bare client and FastStream on the same broker.

Three tables for each broker: publishing to many keys, publishing to a single key, and consuming without any work. All
of them confirm and acknowledge; what a transport promises beyond that (the order of a key when something fails) is
part of its price. A broker that does not answer is left out. What was made on one is removed, also when it fails.
"""

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from mediator.messaging.transport import Transport
from tests.benchmarks.brokers import kafka, nats, rabbitmq, redis, sql
from tests.benchmarks.brokers.contenders import (
    BARE,
    BATCH,
    FASTSTREAM,
    GROUP,
    OURS,
    TOPIC,
    Broker,
    Consumer,
    Message,
    Publish,
    batches,
    consumer_of,
    publisher_of,
)
from tests.benchmarks.measuring import Goal, Scale, Table, Way, measure
from tests.benchmarks.places import Place, on_each
from tests.support.databases import Unreachable

__all__ = ["run"]

T = TypeVar("T")

_SERVERS: Final[Mapping[str, Callable[[], AbstractAsyncContextManager[Broker]]]] = {
    "redis": redis.server,
    "rabbitmq": rabbitmq.server,
    "nats": nats.server,
    "kafka": kafka.server,
}
_PUBLISHED, _CONSUMED = 2_000, 5_000


async def run(scale: Scale) -> Sequence[Table]:
    """On each broker, and for sql:// on each database."""
    tables: list[Table] = []
    for name, server in _SERVERS.items():
        if name not in scale.brokers:
            continue
        try:
            async with server() as broker:
                tables += await _compared(broker, scale)
        except Unreachable as error:
            print(f"left out, {name}: {error}", file=sys.stderr)
    if "sql" in scale.brokers:
        tables += await on_each(["sqlite", "postgresql", "mariadb"], _on_database, scale)
    return tables


async def _on_database(place: Place, scale: Scale) -> Sequence[Table]:
    async with sql.database(place) as broker:
        return await _compared(broker, scale)


async def _compared(broker: Broker, scale: Scale) -> Sequence[Table]:
    # To look through all that the clients and the peer have imported would be charged to whoever comes along.
    gc.collect()
    gc.freeze()
    async with _opened(broker, "publishing") as transport, broker.publishers() as others:
        publishers = _ordered(others, publisher_of(transport))
        tables = [await _publishing(broker, publishers, keys, scale) for keys in (500, 1)]
    await broker.empty()
    async with _opened(broker, "consuming") as transport, broker.consumers() as peers:
        consumers = _ordered(peers, await consumer_of(transport, broker.settled))
        tables.append(await _consuming(broker, consumers, scale))
    return tables


@asynccontextmanager
async def _opened(broker: Broker, name: str) -> AsyncIterator[Transport]:
    transport = broker.transport(name)
    await transport.open()
    try:
        await transport.provision([TOPIC], {GROUP: [TOPIC]})
        yield transport
    finally:
        await transport.close()


def _ordered(others: Mapping[str, T], ours: T) -> dict[str, T]:
    """What the others are compared to is the first."""
    return {BARE: others[BARE], OURS: ours, **{name: other for name, other in others.items() if name != BARE}}


async def _publishing(broker: Broker, publishers: Mapping[str, Publish], keys: int, scale: Scale) -> Table:
    prepared: list[list[Message]] = []

    async def before(_way: str, times: int) -> None:
        await broker.empty()
        prepared[:] = batches(times, keys)
        gc.collect()

    def publishing(publish: Publish) -> Way:
        async def way(_times: int) -> None:
            for batch in prepared:
                await publish(batch)

        return way

    ways = {name: publishing(publish) for name, publish in publishers.items()}
    title = f"Publishing a message to {'a single key' if keys == 1 else f'{keys} keys'}, on {broker.title}"
    table = await measure(title, ways, _PUBLISHED, scale, goals=_goals(ways, "published", 0.7), before=before)
    return replace(table, notes=[broker.note])


async def _consuming(broker: Broker, consumers: Mapping[str, Consumer], scale: Scale) -> Table:
    async def before(way: str, times: int) -> None:
        for batch in batches(times, BATCH):
            await consumers[way].fill(batch)
        gc.collect()

    ways = {name: consumer.consume for name, consumer in consumers.items()}
    title = f"Consuming a message without any work, on {broker.title}"
    table = await measure(title, ways, _CONSUMED, scale, goals=_goals(ways, "consumed", 0.5), before=before)
    return replace(table, notes=[broker.note])


def _goals(ways: Iterable[str], what: str, least: float) -> list[Goal]:
    return [
        Goal(
            f"{what} per second, to {way}", OURS, way, "wall", 1 if way.startswith(FASTSTREAM) else least, of_rates=True
        )
        for way in ways
        if way != OURS
    ]
