"""A member of a group on Kafka: it reads the partitions of its lanes in all topics of the group.

Partition 3 of each topic is in lane 3. Who has which lane is settled outside of Kafka, so there are no rebalances: a
lane changes hands when nothing of it is under way, and the others go on meanwhile. What was read and not handed out
yet when something changes is read again, from where its partition had come to.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from mediator.messaging.patterns import listens
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.kafka.address import Names
from mediator.transports.kafka.cluster import OUT_OF_REACH, KafkaCluster, closed
from mediator.transports.kafka.groups import Groups
from mediator.transports.kafka.messages import delivery_of
from mediator.transports.kafka.offsets import Offsets
from mediator.transports.kafka.partition import Partition

__all__ = ["KafkaSubscription"]

log = structlog.get_logger(__name__)
_TICK_SECONDS = 0.5
_TICKS_TO_LOOK = 4
"""After how many ticks it looks for topics and partitions that are new."""
_TICKS_TO_CONFIRM = 2 * 60 * 60
"""After how many it commits all of it again: the broker forgets what nobody has committed for days."""
_CLOSE_SECONDS = 3.0


class KafkaSubscription:
    """A member that has no lanes at first."""

    def __init__(
        self, cluster: KafkaCluster, names: Names, groups: Groups, group: str, topics: Collection[str], prefetch: int
    ) -> None:
        self._cluster, self._names, self._groups = cluster, names, groups
        self._group, self._topics, self._prefetch = group, set(topics), prefetch
        self._offsets = Offsets(cluster, names, groups, group)
        self._lanes: frozenset[int] = frozenset()
        self._held: dict[TopicPartition, Partition] = {}
        self._left: set[Partition] = set()
        """Those whose lanes were given up while something of them was under way."""
        self._under_way: dict[Delivery, tuple[Partition, int]] = {}
        self._epochs = count(1)
        self._changed = asyncio.Event()
        self._assigning = asyncio.Lock()
        self._reader = cluster.reader()
        self._upkeep: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect for reading."""
        try:
            await self._reader.start()
        except BaseException:
            await closed(self._reader)
            raise
        self._upkeep = asyncio.create_task(self._keep_up())

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What has arrived, each partition in its order."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout.total_seconds()
        while not self._closed:
            left = max(deadline - clock(), 0.0)
            self._changed.clear()
            room = min(at_most, self._prefetch - len(self._under_way))
            epochs = {place: partition.epoch for place, partition in self._held.items() if not partition.is_full}
            if room > 0 and epochs:
                if found := await self._read(epochs, room, min(left, _TICK_SECONDS)):
                    return found
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._changed.wait()
            if clock() >= deadline:
                break
        await asyncio.sleep(0)
        return []

    async def take(self, lanes: Collection[int]) -> None:
        """Read these lanes, and commit what is settled of those that are given up."""
        async with self._assigning:
            self._lanes = frozenset(lanes)
            gone = [partition for partition in self._held.values() if self._lane(partition.place) not in self._lanes]
            for partition in gone:
                del self._held[partition.place]
            self._left.update(gone)
            self._assign()
            # The upkeep tries the second again; what could not be committed comes again at the next owner.
            await self._attempt(self._offsets.commit(gone))
            await self._attempt(self._read_more())

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remember what is settled: it is committed soon, and at once where the lane was given up."""
        again: dict[Partition, int] = {}
        for delivery, how in outcomes:
            partition, offset = self._under_way.pop(delivery, (None, 0))
            if partition is None:
                continue
            if how is Settlement.GIVE_BACK:
                again[partition] = min(offset, again.get(partition, offset))
            else:
                partition.settle(offset)
        for partition, offset in again.items():
            self._read_again(partition, offset)
        self._changed.set()
        if self._left and not self._closed:
            left, busy = self._left, {partition for partition, _ in self._under_way.values()}
            self._left = left & busy
            with suppress(*OUT_OF_REACH):
                await self._offsets.commit_late(left)

    async def widen(self, topics: Sequence[str]) -> None:
        """Read these topics as well."""
        async with self._assigning:
            await self._groups.read()
            self._topics.update(topics)
            await self._read_more()

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing expires."""

    async def close(self) -> None:
        """Commit what is settled."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})
        with suppress(*OUT_OF_REACH):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._offsets.commit(self._held.values())
        self._under_way.clear()
        await closed(self._reader)

    async def _read(self, epochs: Mapping[TopicPartition, int], room: int, seconds: float) -> Sequence[Delivery]:
        try:
            found = await self._reader.getmany(*epochs, timeout_ms=int(seconds * 1000), max_records=room)
            records = {place: found[place] for place in found if self._epoch(place) == epochs[place]}
            return await self._hand_out(epochs, records) if records else []
        except UnicodeDecodeError:
            self._reader.read_carefully()
            self._assign()  # what was taken of other partitions before is read again
        except OffsetOutOfRangeError as error:
            await self._begin_anew(error.args[0])
        except (ConsumerStoppedError, IllegalStateError):
            # It was closed, or the partition given up, meanwhile.
            await asyncio.sleep(0)
        except OUT_OF_REACH as error:
            self._cluster.lost(error)
            await asyncio.sleep(seconds)
        return []

    async def _hand_out(
        self, epochs: Mapping[TopicPartition, int], found: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> Sequence[Delivery]:
        ends = {place: records[-1].offset + 1 for place, records in found.items()}
        try:
            # First of all: should one of them kill this process, the next owner knows that they were delivered.
            new = {place: end for place, end in ends.items() if end > self._held[place].delivered_up_to}
            if new:
                await self._offsets.note(new)
        except BaseException:
            for place in ends:
                if partition := self._held.get(place):
                    self._reader.seek(place, partition.reached)
            raise
        deliveries: dict[Delivery, tuple[Partition, int]] = {}
        for place, records in found.items():
            partition = self._held.get(place)
            if partition is None or partition.epoch != epochs[place]:
                continue
            for record in records:
                if record.offset >= partition.reached:
                    partition.reached = record.offset + 1
                    if not partition.is_settled(record.offset):
                        delivery = self._delivery(record, partition)
                        deliveries[delivery] = partition, record.offset
        self._under_way |= deliveries
        return list(deliveries)

    def _delivery(self, record: ConsumerRecord, partition: Partition) -> Delivery:
        return delivery_of(
            record,
            topic=self._names.address(record.topic) or record.topic,
            attempt=partition.deliver(record.offset),
            lane=self._lane(partition.place),
            epoch=partition.epoch,
        )

    def _read_again(self, partition: Partition, offset: int) -> None:
        """What was handed out behind a record comes again as well, so that keys keep their order."""
        self._forget(partition, offset)
        if self._held.get(partition.place) is partition:
            partition.give_back(offset, next(self._epochs))
            self._reader.seek(partition.place, offset)

    def _forget(self, partition: Partition, begin: int) -> None:
        forgotten = [one for one, (which, at) in self._under_way.items() if which is partition and at >= begin]
        for delivery in forgotten:
            del self._under_way[delivery]

    async def _begin_anew(self, places: Mapping[TopicPartition, int]) -> None:
        """Go on with what there is: the broker has removed what was not read yet, or made the topic anew."""
        begins = await self._cluster.begins(places)
        for place, offset in places.items():
            if partition := self._held.get(place):
                begin = begins[place]
                log.error(
                    "transport.position_lost", group=self._group, topic=place.topic, offset=offset, begins_at=begin
                )
                self._forget(partition, 0)
                self._held[place] = Partition(place, next(self._epochs), begin, begin)
                self._reader.seek(place, begin)

    def _assign(self) -> None:
        self._reader.assign(self._held)
        for place, partition in self._held.items():
            self._reader.seek(place, partition.reached)
        self._changed.set()

    async def _read_more(self) -> None:
        """Read what belongs to its lanes and is not read yet, and no longer what is gone."""
        for partition in [one for one in self._held.values() if not self._cluster.partitions(one.place.topic)]:
            del self._held[partition.place]
            self._forget(partition, 0)
        new = [place for place in self._wanted() if place not in self._held]
        if not new:
            return
        for place, (begin, delivered) in (await self._offsets.read(new)).items():
            self._held[place] = Partition(place, next(self._epochs), begin, delivered)
        self._assign()

    def _wanted(self) -> Iterable[TopicPartition]:
        for topic in self._topics:
            self._names.of(topic)
        for name in self._cluster.topics():
            address = self._names.address(name)
            if address is not None and listens(self._topics, address):
                yield from (place for place in self._cluster.places([name]) if self._lane(place) in self._lanes)

    def _lane(self, place: TopicPartition) -> int:
        return int(place.partition) % self._cluster.lanes

    def _epoch(self, place: TopicPartition) -> int | None:
        return self._held[place].epoch if place in self._held else None

    async def _keep_up(self) -> None:
        for tick in count(1):
            await asyncio.sleep(_TICK_SECONDS)
            # Apart, because a topic that is gone cannot be committed, and looking notices that it is gone.
            if tick % _TICKS_TO_LOOK == 0:
                await self._attempt(self._look())
            await self._attempt(self._offsets.commit(self._held.values(), all_of_it=tick % _TICKS_TO_CONFIRM == 0))

    async def _attempt(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except OUT_OF_REACH as error:
            self._cluster.lost(error)

    async def _look(self) -> None:
        # A pattern is no topic, so there may always be new ones of it.
        if self._cluster.is_lost or any(not self._cluster.partitions(self._names.of(topic)) for topic in self._topics):
            await self._cluster.refresh()
            self._cluster.found()
        async with self._assigning:
            await self._read_more()
