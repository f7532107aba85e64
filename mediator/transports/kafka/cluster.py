"""The connection to a Kafka cluster: which topics there are, and requests that have an end.

It asks for all topics and never for one by its name, because a broker may make a topic that it is asked for. Whoever
cannot be reached is tried again at the next request, so there is nothing to repair.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from mediator.errors import BrokerError
from mediator.transports.kafka.address import KafkaAddress
from mediator.transports.kafka.repairing import repaired

__all__ = ["OUT_OF_REACH", "KafkaCluster", "KafkaReader", "closed"]

T = TypeVar("T")

OUT_OF_REACH = (KafkaError, OSError, TimeoutError)
"""How a request fails."""

log = structlog.get_logger(__name__)
_ANSWER_SECONDS = 8.0
_CLOSE_SECONDS = 3.0
_IN_ALL_MILLISECONDS = int(_ANSWER_SECONDS * 1000)
_FETCH_WAIT_MILLISECONDS = 100
_METADATA_MILLISECONDS = 60_000
_TOPIC = 2
_LATEST, _EARLIEST = -1, -2


class KafkaReader(AIOKafkaConsumer):  # type: ignore[misc]  # the client has no types
    """Reads partitions that it is told, from where it is told, and asks the broker for no topic by its name."""

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        super().assign(list(partitions))
        self._client.set_topics(())

    def read_carefully(self) -> None:
        """From now on look at what is fetched before the client does: it has met something that it cannot read."""
        if not self._is_careful:
            self._is_careful, self._client.send = True, partial(_carefully, self._client.send)

    _is_careful = False


async def _carefully(send: Callable[..., Awaitable[Any]], node: int, request: Any, **options: Any) -> Any:
    answer = await send(node, request, **options)
    if isinstance(request, FetchRequest):
        for _, partitions in answer.topics:
            partitions[:] = [(*facts, repaired(batches or b"")) for *facts, batches in partitions]
    return answer


class KafkaCluster:
    """A connection to each broker that it takes."""

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._client: AIOKafkaClient | None = None
        self._is_lost = False

    @property
    def is_open(self) -> bool:
        return self._client is not None

    @property
    def is_lost(self) -> bool:
        """Whether it could not be reached the last time."""
        return self._is_lost

    @property
    def lanes(self) -> int:
        return self._address.lanes

    @property
    def client(self) -> Any:
        """The client; raises what a request would when closed."""
        if self._client is None:
            raise KafkaConnectionError("closed")
        return self._client

    async def open(self) -> None:
        """Connect, or raise BrokerError."""
        client = AIOKafkaClient(
            **self._address.options(),
            client_id="mediator",
            request_timeout_ms=_IN_ALL_MILLISECONDS,
            metadata_max_age_ms=_METADATA_MILLISECONDS,
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.bootstrap()
        except OUT_OF_REACH as error:
            await closed(client)
            who = f", or does not let {self._address.user!r} in" if self._address.user else ""
            what = f"no Kafka broker answers at {self._address.shown}{who}"
            fix = "Start it, or correct the URL; whether it wants TLS (kafkas://) and a user is up to the broker"
            raise BrokerError("kafka", what, fix) from error
        except BaseException:
            await closed(client)
            raise
        self._client = client

    async def close(self) -> None:
        """Requests that are under way fail."""
        client, self._client = self._client, None
        if client is not None:
            await closed(client)

    def reader(self) -> KafkaReader:
        """Another client, for reading."""
        return KafkaReader(
            **self._address.options(),
            client_id="mediator",
            group_id=None,
            auto_offset_reset="none",
            request_timeout_ms=_IN_ALL_MILLISECONDS,
            fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
            metadata_max_age_ms=_METADATA_MILLISECONDS,
        )

    def partitions(self, name: str) -> int:
        """How many partitions a topic has as far as known; 0 when there is none."""
        return 0 if self._client is None else len(self._client.cluster.partitions_for_topic(name) or ())

    def places(self, names: Iterable[str]) -> list[TopicPartition]:
        """All partitions of topics."""
        return [TopicPartition(name, number) for name in names for number in range(self.partitions(name))]

    def topics(self) -> frozenset[str]:
        """The topics that are known."""
        return frozenset() if self._client is None else frozenset(self._client.cluster.topics())

    def leader(self, place: TopicPartition) -> int | None:
        """Who takes what is published to a partition; None when nobody does at the moment."""
        leader = self.client.cluster.leader_for_partition(place)
        return None if leader in (None, -1) else int(leader)

    def leads(self, name: str, number: int) -> bool:
        """Whether a partition has somebody who takes what is published to it."""
        return self.leader(TopicPartition(name, number)) is not None

    def replicas(self, name: str) -> int:
        """How many brokers keep a topic."""
        kept = self.client.cluster._partitions.get(name, {}).values()  # noqa: SLF001 - it shows them nowhere else
        return min((len(partition.replicas) for partition in kept), default=0)

    def brokers(self) -> list[int]:
        return [int(broker.nodeId) for broker in self.client.cluster.brokers()]

    async def refresh(self) -> None:
        """Learn of all topics, and who leads them."""
        client = self.client
        async with asyncio.timeout(_ANSWER_SECONDS):
            if not await client.force_metadata_update():
                # All addresses that were known may have changed: begin anew with those of the URL.
                await client.bootstrap()

    async def send(self, node: int, request: Request[Any]) -> Any:
        """Ask a broker."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self.client.send(node, request)

    async def coordinator(self, group: str) -> int:
        """Which broker keeps the offsets of a group."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            return int(await self.client.coordinator_lookup(CoordinationType.GROUP, group))

    async def ping(self) -> None:
        """A round trip to a broker, whichever."""
        node = self.client.get_random_node()
        if node is None:
            raise KafkaConnectionError("no broker is known")
        await self.send(node, MetadataRequest([]))

    async def make_topics(self, wanted: Mapping[str, tuple[int, int, Mapping[str, str]]]) -> dict[str, str]:
        """Make topics of so many partitions and replicas, with settings; gives why one could not be made."""
        topics: list[Any] = [
            (name, partitions, replicas, [], list(settings.items()))
            for name, (partitions, replicas, settings) in wanted.items()
        ]
        node = self.client.cluster.controller.nodeId
        answer = await self.send(node, CreateTopicsRequest(topics, _IN_ALL_MILLISECONDS, validate_only=False))
        failed = {}
        for name, code, *said in answer.topic_errors:
            error = for_code(code)
            if code and error.__name__ != "TopicAlreadyExistsError":
                failed[name] = next((text for text in said if text), None) or error.description
        return failed

    async def settings(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings of topics as far as the broker tells them."""
        resources = [(_TOPIC, name, None) for name in topics]
        if not resources:
            return {}
        answer = await self.send(self.brokers()[0], DescribeConfigsRequest(resources, include_synonyms=False))
        return {name: {entry[0]: entry[1] or "" for entry in entries} for _, _, _, name, entries in answer.resources}

    async def begins(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is there, or the one that comes next, of each partition."""
        return await self._offsets(places, _EARLIEST)

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that comes next in each partition."""
        return await self._offsets(places, _LATEST)

    def lost(self, error: BaseException) -> None:
        """Say once that the broker cannot be reached."""
        if not self._is_lost and self.is_open:
            self._is_lost = True
            why = str(error) or type(error).__name__
            log.warning("transport.connection_lost", transport="kafka", broker=self._address.shown, error=why)

    def found(self) -> None:
        """Say once that it can be reached again."""
        if self._is_lost:
            self._is_lost = False
            log.info("transport.connected_again", transport="kafka", broker=self._address.shown)

    async def _offsets(self, places: Iterable[TopicPartition], which: int) -> dict[TopicPartition, int]:
        leaders: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for place in places:
            leader = self.leader(place)
            if leader is None:
                raise LeaderNotAvailableError(f"{place.topic} has no leader at the moment")
            leaders.setdefault(leader, {}).setdefault(place.topic, []).append((place.partition, which))
        found = {}
        for leader, topics in leaders.items():
            answer = await self.send(leader, OffsetRequest(-1, 0, list(topics.items())))
            for topic, partitions in answer.topics:
                for partition, code, _, offset, *_ in partitions:
                    if code:
                        raise for_code(code)
                    found[TopicPartition(topic, partition)] = int(offset)
        return found


async def closed(client: AIOKafkaClient | AIOKafkaConsumer) -> None:
    """Close a client within bounds: one whose broker hangs may not end by itself."""
    ending = asyncio.ensure_future(client.stop() if isinstance(client, AIOKafkaConsumer) else client.close())
    await asyncio.wait({ending}, timeout=_CLOSE_SECONDS)
    if not ending.done():
        ending.cancel()
        await asyncio.wait({ending}, timeout=_CLOSE_SECONDS)
    if ending.done() and not ending.cancelled():
        with suppress(*OUT_OF_REACH):
            ending.result()
