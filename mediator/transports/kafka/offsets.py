"""What Kafka keeps for a group: up to where each partition is settled, and up to where it was handed out.

The second belongs to a group of its own, `{group}:delivered`, because Kafka keeps one number for each group, and not
every broker keeps the text that may go with it.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from mediator.transports.kafka.address import Names
from mediator.transports.kafka.cluster import OUT_OF_REACH, KafkaCluster
from mediator.transports.kafka.groups import Groups
from mediator.transports.kafka.partition import Partition

__all__ = ["Offsets"]


class Offsets:
    """The committed offsets of a group."""

    def __init__(self, cluster: KafkaCluster, names: Names, groups: Groups, group: str) -> None:
        self._cluster, self._groups, self._group = cluster, groups, group
        self._settled_by = names.of(group)
        self._delivered_by = f"{self._settled_by}:delivered"
        # One commit at a time: a later one must not be overtaken.
        self._committing = asyncio.Lock()
        self._coordinators: dict[str, int] = {}

    async def read(self, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Where to begin in each partition, and up to where it was handed out before."""
        settled = await self._committed(self._settled_by, places)
        delivered = await self._committed(self._delivered_by, places)
        begins = {place: settled.get(place, self._groups.start(self._group, place)) for place in places}
        return {place: (begin, delivered.get(place, begin)) for place, begin in begins.items()}

    async def note(self, ends: Mapping[TopicPartition, int]) -> None:
        """Note down what is about to be handed out."""
        await self._commit(self._delivered_by, ends)

    async def commit(self, partitions: Iterable[Partition], *, all_of_it: bool = False) -> None:
        """Commit what is settled and not committed yet, or all of it again."""
        async with self._committing:
            ends = {one: one.settled_up_to for one in partitions if all_of_it or one.settled_up_to != one.committed}
            if not ends:
                return
            await self._commit(self._settled_by, {one.place: end for one, end in ends.items()})
            for partition, end in ends.items():
                partition.commit(end)
        if all_of_it:
            await self.note({one.place: one.delivered_up_to for one in ends})

    async def commit_late(self, partitions: Iterable[Partition]) -> None:
        """Commit what was settled after its lane was given up, unless the new owner is further already."""
        async with self._committing:
            ends = {one.place: one.settled_up_to for one in partitions if one.settled_up_to > one.committed}
            if not ends:
                return
            known = await self._committed(self._settled_by, ends)
            if further := {place: end for place, end in ends.items() if end > known.get(place, -1)}:
                await self._commit(self._settled_by, further)

    async def backlog(self) -> int:
        """How much of its topics the group has not settled."""
        places = self._groups.places(self._group)
        begins, ends = await self._cluster.begins(places), await self._cluster.ends(places)
        settled = {place: offset for place, (offset, _) in (await self.read(places)).items()}
        return sum(max(ends[place] - max(settled[place], begins[place]), 0) for place in places)

    async def _committed(self, group: str, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        topics: dict[str, list[int]] = {}
        for topic, partition in places:
            topics.setdefault(topic, []).append(partition)
        answer = await self._ask(group, OffsetFetchRequest(group, list(topics.items())))
        found = {}
        for topic, partitions in answer.topics:
            for partition, offset, _, code in partitions:
                self._raise_for(group, code)
                if offset >= 0:
                    found[TopicPartition(topic, partition)] = int(offset)
        return found

    async def _commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        # Who reads what is settled outside of Kafka, so these groups have no members.
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, partition), offset in offsets.items():
            topics.setdefault(topic, []).append((partition, offset, ""))
        answer = await self._ask(group, OffsetCommitRequest(group, -1, "", -1, list(topics.items())))
        for _, partitions in answer.topics:
            for _, code in partitions:
                self._raise_for(group, code)

    async def _ask(self, group: str, request: Request[Any]) -> Any:
        try:
            if group not in self._coordinators:
                self._coordinators[group] = await self._cluster.coordinator(group)
            return await self._cluster.send(self._coordinators[group], request)
        except OUT_OF_REACH:
            self._coordinators.pop(group, None)
            raise

    def _raise_for(self, group: str, code: int) -> None:
        if code:
            self._coordinators.pop(group, None)
            raise for_code(code)
