"""On a NATS of its own, the newest one: a stream in files, and a durable consumer that is pulled from."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nats
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from nats.js import JetStreamContext

from mediator.transports.nats import NatsTransport
from tests.benchmarks.brokers.contenders import (
    AT_ONCE,
    BARE,
    BARE_IN_TURN,
    IN_BATCHES,
    LANES,
    ONE_BY_ONE,
    PREFETCH,
    TOPIC,
    Broker,
    Consumer,
    Gate,
    Message,
    Publish,
    versions,
)
from tests.support.own_nats import NEWEST, NatsServer

__all__ = ["server"]

_BARE, _ONE, _MANY = "bare", "faststream-one", "faststream-many"
_PATIENCE_SECONDS = 30
"""For an answer; 500 requests at once may take longer than the client waits by itself on a busy machine."""


@asynccontextmanager
async def server() -> AsyncIterator[Broker]:
    with NatsServer(NEWEST) as own:
        own.start()
        client = await nats.connect(own.url())
        try:
            stream = client.jetstream(timeout=_PATIENCE_SECONDS)
            for name in (_BARE, _ONE, _MANY):
                await stream.add_stream(name=name, subjects=[f"{name}.>"])
            found = client.connected_server_version
            title = f"NATS {found.major}.{found.minor}.{found.patch}, JetStream in files with the usual sync_interval"
            yield _Nats(own.url(), client, title)
        finally:
            await client.close()


class _Nats(Broker):
    note = (
        f"With {versions('nats-py', 'faststream')}. The bare client has 500 publications under way, and consumes with "
        "fetch(500) and ack(). Of a key, the transport publishes one message after the other: to a single key it is "
        "to be compared with who does that as well."
    )

    def __init__(self, url: str, client: Client, title: str) -> None:
        self._url, self._client, self.title = url, client, title
        self._stream: JetStreamContext = client.jetstream(timeout=_PATIENCE_SECONDS)

    def transport(self, name: str) -> NatsTransport:
        return NatsTransport(f"{self._url}?prefix={name}&lanes={LANES}")

    @asynccontextmanager
    async def publishers(self) -> AsyncIterator[Mapping[str, Publish]]:
        async with _faststream(self._url) as broker:
            yield {
                BARE: self._publish,
                BARE_IN_TURN: self._publish_in_turn,
                ONE_BY_ONE: _one_by_one(broker, _ONE),
                AT_ONCE: _at_once(broker, _MANY),
            }

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[Mapping[str, Consumer]]:
        bare = await self._stream.pull_subscribe(f"{_BARE}.>", durable="bench", stream=_BARE)

        async def consume(count: int) -> None:
            while count > 0:
                found = await bare.fetch(min(PREFETCH, count), timeout=_PATIENCE_SECONDS)
                for message in found:
                    await message.ack()
                count -= len(found)

        async with _faststream(self._url) as broker:
            one, many = Gate(), Gate()

            @broker.subscriber(
                f"{_ONE}.>",
                durable="bench",
                stream=JStream(_ONE, declare=False),
                pull_sub=PullSub(batch_size=PREFETCH, timeout=0.1),
            )
            async def handle(_body: Any) -> None:
                await one.passes()

            @broker.subscriber(
                f"{_MANY}.>",
                durable="bench",
                stream=JStream(_MANY, declare=False),
                pull_sub=PullSub(batch_size=PREFETCH, timeout=0.1, batch=True),
            )
            async def handle_batch(bodies: list[Any]) -> None:
                await many.passes(len(bodies))

            await broker.start()
            yield {
                BARE: Consumer(self._publish, consume),
                ONE_BY_ONE: Consumer(_at_once(broker, _ONE), one.consume),
                IN_BATCHES: Consumer(_at_once(broker, _MANY), many.consume),
            }

    async def empty(self) -> None:
        for stream in await self._stream.streams_info():
            if not (stream.config.name or "").endswith("-topics"):
                await self._stream.purge_stream(stream.config.name or "")

    async def _publish(self, messages: Sequence[Message]) -> None:
        subject = f"{_BARE}.{TOPIC}"
        sent = [
            await self._stream.publish_async(subject, message.body, headers=dict(message.headers))
            for message in messages
        ]
        await asyncio.gather(*sent)

    async def _publish_in_turn(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._stream.publish(f"{_BARE}.{TOPIC}", message.body, headers=dict(message.headers))


@asynccontextmanager
async def _faststream(url: str) -> AsyncIterator[NatsBroker]:
    broker = NatsBroker(url, logger=None, apply_types=False, graceful_timeout=1)
    try:
        await broker.connect()
        yield broker
    finally:
        await broker.stop()


def _one_by_one(broker: NatsBroker, stream: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        for message in messages:
            await _publish_one(broker, stream, message)

    return publish


def _at_once(broker: NatsBroker, stream: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        await asyncio.gather(*(_publish_one(broker, stream, message) for message in messages))

    return publish


async def _publish_one(broker: NatsBroker, stream: str, message: Message) -> None:
    subject, headers = f"{stream}.{TOPIC}", dict(message.headers)
    await broker.publish(message.body, subject, headers=headers, stream=stream, timeout=_PATIENCE_SECONDS)
