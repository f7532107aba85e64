"""Kafka: a topic for each topic, and a partition for the keys of a lane.

    kafka://broker-1:9092,broker-2:9092?prefix=shop

A key keeps its order in each topic. Over several topics it does not: Kafka orders what is in one partition, and nothing
else. An envelope is confirmed when all replicas that are in sync have it; what is committed for a group says up to
where all of a partition is settled, so what was settled behind something unsettled comes again to the next owner.

Its lanes are numbers of partitions, and processes share them as on every other transport, instead of joining a consumer
group: nothing stands still when a process comes or goes, a killed one's lanes are taken at once and not after a session
timeout, and a slow handler is never taken for a dead one. The group's offsets are in Kafka as its tools expect.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta

from mediator.errors import BrokerError, Fault, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.patterns import is_wild
from mediator.messaging.transport import Capabilities, Health, Subscription
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.kafka.cluster import OUT_OF_REACH, KafkaCluster
from mediator.transports.kafka.groups import Groups
from mediator.transports.kafka.offsets import Offsets
from mediator.transports.kafka.provisioning import Provisioning, faults
from mediator.transports.kafka.publishing import Publication
from mediator.transports.kafka.subscription import KafkaSubscription

__all__ = ["KafkaTransport"]

_START_IT = "See that its brokers answer, and start again"


class KafkaTransport:
    """Travels over Kafka."""

    name = "kafka"

    def __init__(self, url: str) -> None:
        self._address = KafkaAddress.parse(url)
        self.capabilities = Capabilities(durable=True, ordered=True, wildcards=True, lanes=self._address.lanes)
        self._names = Names(self._address.prefix)
        self._cluster = KafkaCluster(self._address)
        self._groups = Groups(self._cluster, self._names)
        self._topics: set[str] = set()
        self._publications: set[Publication] = set()
        self._subscriptions: list[KafkaSubscription] = []

    async def open(self) -> None:
        """Connect to whichever broker answers."""
        await self._cluster.open()

    async def close(self) -> None:
        """Commit what is settled, and end what is under way."""
        for publication in list(self._publications):
            publication.end("closed")
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        self._subscriptions.clear()
        await self._cluster.close()

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Make the topics, and write down the groups."""
        self._topics.update(topics)
        provisioning = Provisioning(self._address, self._names, self._cluster, self._groups)
        try:
            await self._cluster.refresh()
            await self._groups.read()
            await provisioning.run(topics, groups, create=create)
        except OUT_OF_REACH as error:
            raise BrokerError(self.name, f"it cannot be provisioned: {_said(error)}", _START_IT) from error

    async def check(self) -> Sequence[Fault]:
        """What the topics' settings do to events."""
        try:
            return await faults(self._cluster, [self._names.of(topic) for topic in sorted(self._topics)])
        except OUT_OF_REACH as error:
            fix = "Let this user describe topics and their settings, or look at them yourself"
            return [Fault("broker", self._address.shown, f"its settings cannot be read: {_said(error)}", fix)]

    async def health(self) -> Health:
        """A round trip to one of the brokers."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._cluster.ping()
        except OUT_OF_REACH as error:
            return Health(ok=False, round_trip=timedelta(seconds=clock() - began), detail=_said(error))
        return Health(ok=True, round_trip=timedelta(seconds=clock() - began))

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """What was published to the groups' topics and is not committed for them."""
        try:
            if any(not self._groups.listens_to(group) for group in groups):
                await self._groups.read()
            return {group: await Offsets(self._cluster, self._names, self._groups, group).backlog() for group in groups}
        except OUT_OF_REACH as error:
            raise TransportUnavailableError(self.name, _said(error)) from error

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Send each once; what has no answer after ten seconds is unknown."""
        if not self._cluster.is_open:
            for envelope in batch:
                yield envelope, TransportUnavailableError(self.name, "closed")
            return
        publication = Publication(self._cluster, self._names, batch)
        self._publications.add(publication)
        try:
            async with aclosing(publication.outcomes()) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            self._publications.discard(publication)

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Read for a group that was provisioned."""
        try:
            await self._cluster.refresh()
            await self._groups.read()
            self._groups.check_lanes()
            self._require(group, topics)
            joined = KafkaSubscription(self._cluster, self._names, self._groups, group, topics, prefetch)
            await joined.open()
        except OUT_OF_REACH as error:
            raise BrokerError(self.name, f"group {group} cannot be joined: {_said(error)}", _START_IT) from error
        self._subscriptions.append(joined)
        return joined

    def _require(self, group: str, topics: Collection[str]) -> None:
        missing = [] if self._groups.listens_to(group) else [f"group {group}"]
        addresses = sorted(topic for topic in topics if not is_wild(topic))
        missing += [
            f"topic {address}" for address in addresses if not self._cluster.partitions(self._names.of(address))
        ]
        if missing:
            fix = "Provision them first, with the rights to make topics"
            raise BrokerError(self.name, f"{self._address.shown} does not have {', '.join(missing)}", fix)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
