"""On the RabbitMQ that the tests use: quorum queues, persistent messages, publisher confirms."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from pamqp.commands import Basic

from mediator.transports.rabbitmq.topology import Names
from tests.benchmarks.brokers.contenders import (
    AT_ONCE,
    BARE,
    BARE_IN_TURN,
    GROUP,
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
from tests.support.rabbitmq import SHARED, Recorded, found, removed

__all__ = ["RabbitMQ", "server"]

_BARE, _PEER = "bare", "faststream"
_QUORUM: Final[Any] = {"x-queue-type": "quorum"}
_ACKNOWLEDGED_AT_ONCE = 250


@asynccontextmanager
async def server() -> AsyncIterator["RabbitMQ"]:
    found()
    async with AsyncExitStack() as stack:
        connection = await aiormq.connect(SHARED)
        stack.push_async_callback(connection.close)
        version: Any = connection.server_properties["version"]
        channel = await connection.channel(publisher_confirms=True)
        broker = RabbitMQ(channel, f"bench-{uuid4().hex[:12]}", f"RabbitMQ {version}, quorum queues")
        stack.push_async_callback(broker.remove)
        for queue in (_BARE, _PEER):
            await channel.queue_declare(broker.own(queue), durable=True, arguments=_QUORUM)
        yield broker


class RabbitMQ(Broker):
    note = (
        f"With {versions('aiormq', 'aio-pika', 'faststream')}. Persistent messages and publisher confirms for all. The "
        "bare client is aiormq, with 500 publications under way, and acknowledges 250 with one Basic.Ack; it and "
        f"FastStream use one queue, the transport {LANES}. Of a key, the transport publishes one message after the "
        "other: to a single key it is to be compared with who does that as well."
    )

    def __init__(self, channel: AbstractChannel, prefix: str, title: str) -> None:
        self._channel, self._prefix, self.title = channel, prefix, title
        self._made: list[str] = []

    def own(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def transport(self, name: str) -> Recorded:
        self._made.append(name)
        return Recorded(f"{SHARED}?prefix={self.own(name)}&lanes={LANES}")

    @asynccontextmanager
    async def publishers(self) -> AsyncIterator[Mapping[str, Publish]]:
        async with self._faststream() as broker:
            yield {
                BARE: self._publish,
                BARE_IN_TURN: self._publish_in_turn,
                ONE_BY_ONE: _one_by_one(broker, self.own(_PEER)),
                AT_ONCE: _at_once(broker, self.own(_PEER)),
            }

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[Mapping[str, Consumer]]:
        gate = Gate()
        bare = _Consumer(self._channel)
        await self._channel.basic_qos(prefetch_count=PREFETCH)
        answer = await self._channel.basic_consume(self.own(_BARE), bare.receive)
        async with self._faststream() as broker:
            queue = RabbitQueue(self.own(_PEER), queue_type=QueueType.QUORUM, durable=True)

            @broker.subscriber(queue)
            async def handle(_body: Any) -> None:
                await gate.passes()

            await broker.start()
            yield {
                BARE: Consumer(self._publish, bare.consume),
                ONE_BY_ONE: Consumer(_at_once(broker, self.own(_PEER)), gate.consume),
            }
        await self._channel.basic_cancel(answer.consumer_tag or "")

    async def empty(self) -> None:
        for queue in self.queues():
            await self._channel.queue_purge(queue)

    async def remove(self) -> None:
        for name in self._made:
            await removed(self.own(name))
        # Whatever went wrong may have ended the channel.
        async with aiormq.connect(SHARED) as connection:
            channel = await connection.channel()
            for queue in (_BARE, _PEER):
                await channel.queue_delete(self.own(queue))

    def queues(self) -> list[str]:
        """All that there are."""
        theirs = [queue for name in self._made for queue in Names(self.own(name), LANES).queues(GROUP)]
        return [self.own(_BARE), self.own(_PEER), *theirs]

    @asynccontextmanager
    async def _faststream(self) -> AsyncIterator[RabbitBroker]:
        broker = RabbitBroker(
            SHARED, logger=None, apply_types=False, graceful_timeout=1, default_channel=Channel(prefetch_count=PREFETCH)
        )
        try:
            await broker.connect()
            yield broker
        finally:
            await broker.stop()

    async def _publish(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(*map(self._publish_one, messages))

    async def _publish_in_turn(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._publish_one(message)

    async def _publish_one(self, message: Message) -> None:
        headers: dict[str, Any] = {**message.headers}
        properties = Basic.Properties(
            content_type=headers.pop("content-type"),
            message_id=str(message.envelope.event_id),
            delivery_mode=2,
            headers=headers,
        )
        await self._channel.basic_publish(message.body, routing_key=self.own(_BARE), properties=properties)


class _Consumer:
    """Acknowledges many at once."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[int] = asyncio.Queue()

    async def receive(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(message.delivery_tag or 0)

    async def consume(self, count: int) -> None:
        for left in range(count - 1, -1, -1):
            tag = await self._arrived.get()
            if left % _ACKNOWLEDGED_AT_ONCE == 0:
                await self._channel.basic_ack(tag, multiple=True)


def _one_by_one(broker: RabbitBroker, queue: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        for message in messages:
            await _publish_one(broker, queue, message)

    return publish


def _at_once(broker: RabbitBroker, queue: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        await asyncio.gather(*(_publish_one(broker, queue, message) for message in messages))

    return publish


async def _publish_one(broker: RabbitBroker, queue: str, message: Message) -> None:
    headers: dict[str, Any] = {**message.headers}
    content_type = headers.pop("content-type")
    await broker.publish(message.body, queue, persist=True, headers=headers, content_type=content_type)
