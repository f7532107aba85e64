"""Which groups there are, what they listen to and from where on: a topic in which that is written down.

Kafka knows a group by what it has committed, and forgets that after some days without a member. A group that could not
be told from a new one then would either miss what came meanwhile or be given what was before its time. So provisioning
writes, once and for good, from which offset on a group gets the topics that are there; whatever topic is made later it
gets from the beginning. Of several entries about the same thing the first one counts.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from mediator.errors import BrokerError
from mediator.messaging.patterns import listens
from mediator.transports.kafka.address import Names
from mediator.transports.kafka.cluster import KafkaCluster, closed
from mediator.transports.kafka.publishing import send

__all__ = ["Groups"]

_READ_SECONDS = 10.0
_LARGEST_BYTES = 900 * 1024
_Starts = dict[str, list[int]]


@dataclass
class _Written:
    """What the topic says."""

    groups: dict[str, dict[str, _Starts]] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    """Those of topics whose names are shortened."""
    lanes: int | None = None

    def learn(self, value: bytes | None) -> None:
        """Add an entry; what is none is passed over."""
        try:
            entry = json.loads(value or b"")
            if "lanes" in entry:
                self.lanes = self.lanes or entry["lanes"]
            elif "group" in entry:
                self.groups.setdefault(entry["group"], {}).setdefault(entry["topic"], entry["starts"])
            else:
                self.addresses.add(entry["topic"])
        except (ValueError, TypeError, KeyError):
            return


class Groups:
    """What is written down, as far as it was read."""

    def __init__(self, cluster: KafkaCluster, names: Names) -> None:
        self._cluster, self._names = cluster, names
        self._written = _Written()

    def listens_to(self, group: str) -> frozenset[str]:
        """The topics and patterns of a group; none when it was not provisioned."""
        return frozenset(self._written.groups.get(group, ()))

    def places(self, group: str) -> list[TopicPartition]:
        """The partitions of all topics that a group listens to."""
        topics = self.listens_to(group)
        addresses = {name: self._names.address(name) for name in self._cluster.topics()}
        return self._cluster.places(name for name, one in addresses.items() if one is not None and listens(topics, one))

    def start(self, group: str, place: TopicPartition) -> int:
        """From where on a group gets a partition that it has committed nothing of."""
        address = self._names.address(place.topic)
        starts = [
            offsets[place.partition] if place.partition < len(offsets := start.get(place.topic, [])) else 0
            for topic, start in self._written.groups.get(group, {}).items()
            if address is not None and listens([topic], address)
        ]
        return min(starts, default=0)

    async def read(self) -> None:
        """Learn what is written down now; until all of it is read, what was known counts."""
        written = _Written()
        place = TopicPartition(self._names.groups, 0)
        if not self._cluster.partitions(place.topic):
            self._written = written
            return
        reader = self._cluster.reader()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await reader.start()
                reader.assign([place])
                end = (await reader.end_offsets([place]))[place]
                at = (await reader.beginning_offsets([place]))[place]
                reader.seek(place, at)
                while at < end:
                    for record in (await reader.getmany(timeout_ms=500)).get(place, []):
                        written.learn(record.value)
                        at = record.offset + 1
        finally:
            await closed(reader)
        for address in written.addresses:
            self._names.of(address)
        self._written = written

    async def ends(self, topics: Iterable[str]) -> _Starts:
        """Where each partition of these topics ends now."""
        ends: _Starts = {}
        for place, end in sorted((await self._cluster.ends(self._cluster.places(topics))).items()):
            ends.setdefault(place.topic, []).append(end)
        return {topic: offsets for topic, offsets in ends.items() if any(offsets)}

    async def add(self, groups: Sequence[tuple[str, str]], addresses: Iterable[str], starts: _Starts) -> None:
        """Write down groups with what they listen to, and topics whose names on the broker are shortened."""
        entries: list[dict[str, Any]] = [] if self._written.lanes else [{"lanes": self._cluster.lanes}]
        entries += ({"topic": address} for address in sorted(addresses) if address not in self._written.addresses)
        for group, topic in groups:
            known = {name: ends for name, ends in starts.items() if listens([topic], self._names.address(name) or "")}
            entries.append({"group": group, "topic": topic, "starts": known})
        for entry in entries:
            await self._write(json.dumps(entry).encode())
        await self.read()
        self.check_lanes()

    def check_lanes(self) -> None:
        """Raise BrokerError when the application was provisioned with another number of lanes."""
        if self._written.lanes not in (None, self._cluster.lanes):
            what = (
                f"it was provisioned with {self._written.lanes} lanes, and ?lanes={self._cluster.lanes} asks for others"
            )
            fix = f"Use ?lanes={self._written.lanes}, or another ?prefix= for new topics: keys would change their lanes"
            raise BrokerError("kafka", what, fix)

    async def _write(self, entry: bytes) -> None:
        place = TopicPartition(self._names.groups, 0)
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, _LARGEST_BYTES)
        builder.append(0, None, None, entry, [])
        leader = self._cluster.leader(place)
        if leader is None:
            raise BrokerError("kafka", f"topic {place.topic} has no leader", "Look at the brokers' state")
        error = (await send(self._cluster, leader, {place: bytes(builder.build())}))[place]
        if error is not None:
            what = f"groups cannot be written down in topic {place.topic}: {error.description}"
            raise BrokerError("kafka", what, "Let this user write to it, and look at the brokers' state")
