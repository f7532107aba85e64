"""Publishing to Kafka: each envelope once, in the order of its key, with an outcome of its own.

The client's producer sends again by itself what had no answer. This one does not: a request is made once, and what
became of it is the outcome. So a producer id, by which brokers notice repeated requests, would find nothing to do.

A batch goes in rounds. In each, a key's next envelopes go as far as they have the same topic, and so the same
partition; the next round waits for the answers. That way nothing of a key is published after its first failure, also
when its envelopes have different topics.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import lane_of
from mediator.transports.kafka.address import Names
from mediator.transports.kafka.cluster import OUT_OF_REACH, KafkaCluster
from mediator.transports.kafka.messages import record_headers

__all__ = ["Publication", "send"]

_DEADLINE_SECONDS = 10.0
_TOGETHER_BYTES = 256 * 1024
_EVERY_REPLICA = -1
_BROKER_MILLISECONDS = 7_000
"""How long a broker waits for the replicas; shorter than it is waited for here."""
_TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError"})
_GONE = "UnknownTopicOrPartitionError"
_REFUSED = _TOO_LARGE | {
    "CorruptRecordException",
    "InvalidMessageError",
    "InvalidTimestampError",
    "InvalidTopicError",
    "PolicyViolationError",
    "TopicAuthorizationFailedError",
    "UnsupportedForMessageFormatError",
}
"""Errors that say nothing was written, and that it would be the same the next time."""

_Numbered = tuple[int, Envelope]


class Publication:
    """One batch on its way."""

    def __init__(self, cluster: KafkaCluster, names: Names, batch: Sequence[Envelope]) -> None:
        self._cluster, self._names = cluster, names
        self._open: dict[int, Envelope] = dict(enumerate(batch))
        self._failed: dict[str, Exception] = {}
        self._one_by_one: set[TopicPartition] = set()
        self._outcomes: asyncio.Queue[tuple[Envelope, Exception | None]] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None

    async def outcomes(self) -> AsyncGenerator[tuple[Envelope, Exception | None], None]:
        """Send, and give each outcome as it becomes known."""
        deadline = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
        left = len(self._open)
        self._work = asyncio.create_task(self._send_all())
        try:
            while left:
                try:
                    async with asyncio.timeout_at(deadline if self._open else None):
                        outcome = await self._outcomes.get()
                except TimeoutError:
                    self.end(f"no answer within {_DEADLINE_SECONDS:g} s")
                    continue
                left -= 1
                yield outcome
        finally:
            self._work.cancel()
            await asyncio.wait({self._work})

    def end(self, why: str) -> None:
        """Give up: what has no outcome yet may have been written or not."""
        if self._work is not None:
            self._work.cancel()
        error = TransportUnavailableError("kafka", why)
        for one in list(self._open.items()):
            self._say(one, error)

    async def _send_all(self) -> None:
        waiting = list(self._open.items())
        unknown = (not self._cluster.partitions(self._names.of(envelope.topic)) for _, envelope in waiting)
        if self._cluster.is_lost or any(unknown):
            try:
                await self._cluster.refresh()
                self._cluster.found()
            except OUT_OF_REACH as error:
                self._cluster.lost(error)
                self.end(_said(error))
                return
        while waiting:
            now, waiting = _round(waiting)
            brokers: dict[int, dict[TopicPartition, deque[_Numbered]]] = {}
            for one in now:
                self._sort(one, brokers)
            await asyncio.gather(*(self._send_to(broker, places) for broker, places in brokers.items()))

    def _sort(self, one: _Numbered, brokers: dict[int, dict[TopicPartition, deque[_Numbered]]]) -> None:
        topic = one[1].topic
        name = self._names.of(topic)
        if not (count := self._cluster.partitions(name)):
            self._say(one, _unknown(topic))
            return
        place = TopicPartition(name, lane_of(one[1], count))
        broker = self._cluster.leader(place)
        if broker is None:
            self._say(one, TransportUnavailableError("kafka", f"{name} has no leader at the moment"))
            return
        brokers.setdefault(broker, {}).setdefault(place, deque()).append(one)

    async def _send_to(self, broker: int, places: dict[TopicPartition, deque[_Numbered]]) -> None:
        while chunks := {place: chunk for place, waiting in places.items() if (chunk := self._chunk(place, waiting))}:
            try:
                errors = await send(self._cluster, broker, {place: buffer for place, (buffer, _) in chunks.items()})
            except OUT_OF_REACH as error:
                self._cluster.lost(error)
                unknown = TransportUnavailableError("kafka", _said(error))
                for one in (*(sent for _, chunk in chunks.values() for sent in chunk), *_rest(places)):
                    self._say(one, unknown)
                return
            self._cluster.found()
            for place, (_, sent) in chunks.items():
                await self._judge(place, sent, errors[place], places[place])

    def _chunk(self, place: TopicPartition, waiting: deque[_Numbered]) -> tuple[bytes, list[_Numbered]] | None:
        """Of what waits, as much as fits into a request; what comes after a failure of its key is not sent."""
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, _TOGETHER_BYTES)
        chunk: list[_Numbered] = []
        while waiting and not (chunk and place in self._one_by_one):
            one = waiting[0]
            envelope = one[1]
            error = None if envelope.key is None else self._failed.get(envelope.key)
            if error is None:
                key = None if envelope.key is None else envelope.key.encode()
                if builder.append(len(chunk), None, key, envelope.body, record_headers(envelope)) is None:
                    break
                chunk.append(one)
            else:
                self._say(one, error)
            waiting.popleft()
        return (bytes(builder.build()), chunk) if chunk else None

    async def _judge(
        self, place: TopicPartition, chunk: list[_Numbered], error: type[KafkaError] | None, waiting: deque[_Numbered]
    ) -> None:
        if error is None:
            for one in chunk:
                self._say(one, None)
            return
        if error.__name__ in _TOO_LARGE and len(chunk) > 1:
            # None of them was written. Together they are too large; which one alone, if any, has to be found out.
            self._one_by_one.add(place)
            waiting.extendleft(reversed(chunk))
            return
        topic = chunk[0][1].topic
        judged: Exception = TransportUnavailableError("kafka", f"{place.topic}: {error.description}")
        if error.invalid_metadata:
            try:
                await self._cluster.refresh()
            except OUT_OF_REACH as lost:
                self._cluster.lost(lost)
        if error.__name__ == _GONE and not self._cluster.partitions(place.topic):
            judged = _unknown(topic)
        elif error.__name__ in _REFUSED:
            fix = ": raise max.message.bytes, or publish less at once" if error.__name__ in _TOO_LARGE else ""
            judged = PublishRefusedError("kafka", topic, f"{error.description}{fix}")
        for one in chunk:
            self._say(one, judged)

    def _say(self, one: _Numbered, error: Exception | None) -> None:
        number, envelope = one
        if self._open.pop(number, None) is not None:
            if error is not None and envelope.key is not None:
                error = self._failed.setdefault(envelope.key, error)
            self._outcomes.put_nowait((envelope, error))


async def send(
    cluster: KafkaCluster, broker: int, buffers: dict[TopicPartition, bytes]
) -> dict[TopicPartition, type[KafkaError] | None]:
    """Write to partitions that a broker leads; gives the error of each, or None."""
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for (topic, partition), buffer in buffers.items():
        topics.setdefault(topic, []).append((partition, buffer))
    request = ProduceRequest(None, _EVERY_REPLICA, _BROKER_MILLISECONDS, list(topics.items()))
    answer = await cluster.send(broker, request)
    return {
        TopicPartition(topic, partition): for_code(code) if code else None
        for topic, partitions in answer.topics
        for partition, code, *_ in partitions
    }


def _round(waiting: Iterable[_Numbered]) -> tuple[list[_Numbered], list[_Numbered]]:
    """What may go now, and what has to wait: of each key those in front that have the same topic."""
    topics: dict[str, str] = {}
    now, later = [], []
    for one in waiting:
        key, topic = one[1].key, one[1].topic
        if key is None or topics.setdefault(key, topic) == topic:
            now.append(one)
        else:
            # Nothing of this key matches from here on.
            topics[key] = ""
            later.append(one)
    return now, later


def _rest(places: dict[TopicPartition, deque[_Numbered]]) -> list[_Numbered]:
    rest = [one for waiting in places.values() for one in waiting]
    for waiting in places.values():
        waiting.clear()
    return rest


def _unknown(topic: str) -> PublishRefusedError:
    why = "the broker has no such topic, so it was not provisioned: start the application with the rights to do that"
    return PublishRefusedError("kafka", topic, why)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
