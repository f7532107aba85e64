"""On a Redis of its own, which writes everything down: streams, with a group where something is consumed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

from faststream.redis import RedisBroker, StreamSub
from redis.asyncio import Redis

from mediator.transports.redis import RedisTransport
from tests.benchmarks.brokers.contenders import (
    AT_ONCE,
    BARE,
    IN_BATCHES,
    LANES,
    ONE_BY_ONE,
    PREFETCH,
    Broker,
    Consumer,
    Gate,
    Message,
    Publish,
    versions,
)
from tests.support.own_redis import RedisServer

__all__ = ["server"]

_BARE, _ONE, _MANY = "bare", "faststream-one", "faststream-many"


@asynccontextmanager
async def server() -> AsyncIterator[Broker]:
    with RedisServer() as own:
        own.start()
        async with Redis.from_url(own.url(), protocol=2) as redis:
            facts = await redis.info("server")
            yield _Redis(own.url(), redis, f"Redis {facts['redis_version']}, AOF with appendfsync everysec")


class _Redis(Broker):
    note = (
        f"With {versions('redis', 'hiredis', 'faststream')}. The bare client sends 500 XADD in a pipeline, with the "
        "fields that the transport writes, and acknowledges up to 500 with one XACK. FastStream's 500 at once are a "
        "pipeline, too; it packs headers and body into one field."
    )

    def __init__(self, url: str, redis: Redis, title: str) -> None:
        self._url, self._redis, self.title = url, redis, title

    def transport(self, name: str) -> RedisTransport:
        return RedisTransport(f"{self._url}?prefix={name}&lanes={LANES}")

    @asynccontextmanager
    async def publishers(self) -> AsyncIterator[Mapping[str, Publish]]:
        async with _faststream(self._url) as broker:
            yield {BARE: self._publish, ONE_BY_ONE: _one_by_one(broker, _ONE), AT_ONCE: _at_once(broker, _MANY)}

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[Mapping[str, Consumer]]:
        await self._redis.xgroup_create(_BARE, "bench", "$", mkstream=True)
        async with _faststream(self._url) as broker:
            one, many = Gate(), Gate()

            @broker.subscriber(stream=StreamSub(_ONE, group="bench", consumer="bench", max_records=PREFETCH))
            async def handle(_body: Any) -> None:
                await one.passes()

            @broker.subscriber(
                stream=StreamSub(_MANY, group="bench", consumer="bench", batch=True, max_records=PREFETCH)
            )
            async def handle_batch(bodies: list[Any]) -> None:
                await many.passes(len(bodies))

            await broker.start()
            yield {
                BARE: Consumer(self._publish, self._consume),
                ONE_BY_ONE: Consumer(_at_once(broker, _ONE), one.consume),
                IN_BATCHES: Consumer(_at_once(broker, _MANY), many.consume),
            }

    async def empty(self) -> None:
        async for key in self._redis.scan_iter(_type="stream"):
            await self._redis.xtrim(key, maxlen=0, approximate=False)

    async def _publish(self, messages: Sequence[Message]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for message in messages:
                fields = ("topic", message.envelope.topic, "body", message.body)
                pipeline.execute_command("XADD", _BARE, "*", *fields, *chain.from_iterable(message.headers.items()))
            await pipeline.execute()

    async def _consume(self, count: int) -> None:
        while count > 0:
            found: Any = await self._redis.xreadgroup("bench", "bench", {_BARE: ">"}, count=PREFETCH, block=1_000)
            for _, entries in found or ():
                await self._redis.xack(_BARE, "bench", *(entry for entry, _ in entries))
                count -= len(entries)


@asynccontextmanager
async def _faststream(url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(url, logger=None, apply_types=False, graceful_timeout=1)  # type: ignore[arg-type]
    try:
        await broker.connect()
        yield broker
    finally:
        await broker.stop()


def _one_by_one(broker: RedisBroker, stream: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        for message in messages:
            await broker.publish(message.body, stream=stream, headers=dict(message.headers))

    return publish


def _at_once(broker: RedisBroker, stream: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        client = await broker.connect()
        async with client.pipeline(transaction=False) as pipeline:
            for message in messages:
                await broker.publish(message.body, stream=stream, headers=dict(message.headers), pipeline=pipeline)
            await pipeline.execute()

    return publish
