"""What is made on Kafka, and what its settings must not do."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from mediator.errors import BrokerError, Fault
from mediator.messaging.patterns import listens
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.kafka.cluster import KafkaCluster
from mediator.transports.kafka.groups import Groups

__all__ = ["Provisioning", "faults"]

_READY_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_USUAL_REPLICAS = 3
_FOR_EVER: Final = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
_DAY = 24 * 60 * 60 * 1000
_SMALL = 512 * 1024


class Provisioning:
    """Looks for what an application needs, and makes it."""

    def __init__(self, address: KafkaAddress, names: Names, cluster: KafkaCluster, groups: Groups) -> None:
        self._address, self._names, self._cluster, self._groups = address, names, cluster, groups

    async def run(self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool) -> None:
        """Make what is missing, or raise BrokerError with all of it."""
        self._groups.check_lanes()
        self._refuse_alike([self._names.of(topic) for topic in topics])
        missing = sorted(topic for topic in topics if not self._cluster.partitions(self._names.of(topic)))
        joining = [
            (group, topic)
            for group, listened in sorted(groups.items())
            for topic in sorted(listened)
            if topic not in self._groups.listens_to(group)
        ]
        if not create:
            lacking = [f"topic {topic}" for topic in missing] + [
                f"group {group} to {topic}" for group, topic in joining
            ]
            if lacking:
                fix = "Start the application once with the rights to make topics, or make them as it would"
                raise BrokerError("kafka", f"{self._address.shown} does not have {', '.join(lacking)}", fix)
            return
        # What the groups get of topics that are there already begins where those end now.
        old = [name for name in self._cluster.topics() if self._is_heard(name, joining)]
        starts = await self._groups.ends(old) if old else {}
        await self._make(missing)
        shortened = [topic for topic in topics if self._names.is_shortened(topic)]
        await self._groups.add(joining, shortened, starts)

    def _is_heard(self, name: str, joining: Sequence[tuple[str, str]]) -> bool:
        address = self._names.address(name)
        return address is not None and listens([topic for _, topic in joining], address)

    async def _make(self, topics: Iterable[str]) -> None:
        replicas = self._address.replication or min(_USUAL_REPLICAS, len(self._cluster.brokers()))
        # Enough to survive one broker, where there are enough.
        safe = {"min.insync.replicas": "2"} if replicas >= _USUAL_REPLICAS else {}
        wanted = {self._names.of(topic): (self._address.lanes, replicas, safe) for topic in topics}
        if not self._cluster.partitions(self._names.groups):
            wanted[self._names.groups] = 1, replicas, {**safe, **_FOR_EVER}
        if not wanted:
            return
        failed = await self._cluster.make_topics(wanted)
        if failed:
            what = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise BrokerError("kafka", f"topics cannot be made: {what}", "Correct the URL's parameters or the rights")
        async with asyncio.timeout(_READY_SECONDS):
            while any(not self._is_ready(name) for name in wanted):
                await asyncio.sleep(_LOOK_SECONDS)
                await self._cluster.refresh()

    def _is_ready(self, name: str) -> bool:
        count = self._cluster.partitions(name)
        return bool(count) and all(self._cluster.leads(name, number) for number in range(count))

    def _refuse_alike(self, names: Iterable[str]) -> None:
        seen: dict[str, str] = {}
        for name in (*sorted(self._cluster.topics()), *names):
            other = seen.setdefault(name.replace(".", "_"), name)
            if other != name and name in names:
                what = f"topics {other} and {name} are the same to its metrics, where a dot is an underscore"
                raise BrokerError("kafka", what, "Rename one of them, or use another prefix: ?prefix=…")


async def faults(cluster: KafkaCluster, topics: Sequence[str]) -> list[Fault]:
    """What the settings of topics break."""
    settings = await cluster.settings(topics)
    return [fault for topic in topics for fault in _faults(topic, cluster.replicas(topic), settings.get(topic, {}))]


def _faults(topic: str, replicas: int, settings: Mapping[str, str]) -> Iterable[Fault]:
    def fault(setting: str, what: str, fix: str) -> Fault:
        return Fault("broker", f"{topic}: {setting}", what, fix)

    if replicas < 2:  # noqa: PLR2004 - one and a spare one
        what = f"{replicas} broker keeps it, and what that one loses is lost"
        yield fault("replication factor", what, "Have three brokers keep it: kafka-reassign-partitions")
    elif int(settings.get("min.insync.replicas") or 2) < 2:  # noqa: PLR2004
        what = "an event is confirmed when a single broker has it"
        yield fault("min.insync.replicas", what, "Set it to 2")
    if settings.get("unclean.leader.election.enable") == "true":
        what = "a broker that has not got all events may take over, and the others forget them"
        yield fault("unclean.leader.election.enable", what, "Set it to false")
    if "compact" in settings.get("cleanup.policy", ""):
        yield fault("cleanup.policy", "of a key's events only the last is kept", "Set it to delete")
    if 0 <= int(settings.get("retention.ms") or -1) < _DAY:
        what = "a group that is away for a day misses events"
        yield fault("retention.ms", what, "Set it to what you can bear, such as 604800000 for a week")
    if int(settings.get("retention.bytes") or -1) >= 0:
        what = "events are removed because of their size, whether they were handled or not"
        yield fault("retention.bytes", what, "Set it to -1")
    if int(settings.get("max.message.bytes") or _SMALL) < _SMALL:
        yield fault("max.message.bytes", "events that the outbox takes are too large for it", f"Set it to {_SMALL * 2}")
