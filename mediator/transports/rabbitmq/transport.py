"""RabbitMQ: one exchange for all envelopes, and for each group a quorum queue per lane.

    relay → exchange PREFIX, routing key LANE.TOPIC → queue PREFIX.GROUP.LANE → the member who has the lane

What is promised, and by what (`amqp/` has one file for each):

* None as an outcome means that every queue of the topic's groups has the envelope on the disks of most of its nodes:
  the broker confirms durable messages in quorum queues only then. So what is confirmed outlives `kill -9`.
* Of a key, an envelope is published when the one before it was confirmed (`publisher.py`). It stands in one lane, the
  same queue for all topics of a group, and a lane has one consumer at a time: the core's lock says who it is, and the
  queue's single active consumer is a fence against one who does not know that it has lost the lock.
* What comes again comes in order, and before what has not come yet (`subscription.py`). After a loss of the connection
  all that was under way arrives twice.
* A topic that was not provisioned is refused before anything of its key is sent (`topology.py`).
* It publishes over one connection and consumes over another, because a broker that is short of memory stops reading
  from those who publish; acknowledgements have to pass.

The broker closes a channel on which a delivery is not settled within its `consumer_timeout`, 30 minutes: what is in
that lane then comes again, also while its handler is still at work.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from mediator.errors import BrokerError, Fault, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Capabilities, Health, Subscription
from mediator.transports.rabbitmq.address import address_of
from mediator.transports.rabbitmq.connection import Connection
from mediator.transports.rabbitmq.publishing import Publisher
from mediator.transports.rabbitmq.subscription import RabbitMQSubscription
from mediator.transports.rabbitmq.topology import Names, Topology

__all__ = ["RabbitMQTransport"]

_OLDEST: Final = (3, 10)
_NEEDED: Final = {
    "publisher_confirms": "nobody can know what it has taken",
    "basic.nack": "nothing can be given back in order",
    "consumer_cancel_notify": "consumers do not learn that their queue is gone",
}
_HEALTH_SECONDS: Final = 5.0


class RabbitMQTransport:
    """Carries envelopes over RabbitMQ."""

    def __init__(self, url: str) -> None:
        address = address_of(url)
        self._lanes, self._place = address.lanes, address.place
        self._publishing, self._consuming = Connection(address, "publishing"), Connection(address, "consuming")
        names = Names(address.prefix, address.lanes)
        self._topology = Topology(self._publishing, names, address.lanes)
        self._publisher = Publisher(self._publishing, self._topology, names, address.lanes)
        self._names = names
        self._subscriptions: list[RabbitMQSubscription] = []
        self.name: str = address.scheme
        self.capabilities = Capabilities(durable=True, ordered=True, wildcards=True, lanes=address.lanes)

    async def open(self) -> None:
        """Connect twice."""
        await self._publishing.open()
        try:
            await self._consuming.open()
        except BaseException:
            await self._publishing.close()
            raise

    async def close(self) -> None:
        """Disconnect; what is not settled is delivered again."""
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        self._subscriptions.clear()
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Make exchanges and queues, or see that they are there. What a group listened to before stays bound."""
        try:
            await (self._topology.make if create else self._topology.look)(topics, groups)
        except TransportUnavailableError as error:
            raise BrokerError(self._place, error.why, "Try it again when the broker is there") from error

    async def check(self) -> Sequence[Fault]:
        """What the broker says of itself when it is connected to; more cannot be asked for over AMQP."""
        said = self._publishing.properties
        product, version = str(said.get("product", "")), str(said.get("version", ""))
        faults = []
        if product != "RabbitMQ":
            what = f"it is {product or 'unknown'}, and only RabbitMQ has the quorum queues that the promises rest on"
            faults.append(Fault("broker", "product", what, "Use RabbitMQ"))
        elif not re.match(r"\d+\.\d+", version) or _version(version) < _OLDEST:
            what = f"it is RabbitMQ {version or 'of unknown version'}"
            faults.append(Fault("broker", "version", what, f"Use {'.'.join(map(str, _OLDEST))} or newer"))
        able = said.get("capabilities") or {}
        faults += [
            Fault("broker", f"capability {name}", f"it lacks it: {why}", "Use a current RabbitMQ without a proxy")
            for name, why in _NEEDED.items()
            if not able.get(name)
        ]
        return faults

    async def health(self) -> Health:
        """Open a channel and close it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            channel = await self._publishing.open_channel(within=_HEALTH_SECONDS)
            await self._publishing.close_channel(channel)
        except TransportUnavailableError as error:
            return Health(ok=False, round_trip=timedelta(seconds=clock() - began), detail=error.why)
        return Health(ok=True, round_trip=timedelta(seconds=clock() - began))

    def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Publish, of each key one after the other."""
        return self._publisher.publish(batch)

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """What waits on the broker, and what was delivered to this process and is not settled."""
        waiting = {group: await self._topology.waiting(group) for group in groups}
        for subscription in self._subscriptions:
            if subscription.group in waiting:
                waiting[subscription.group] += subscription.unsettled
        return waiting

    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],  # noqa: ARG002 - the queues know
        prefetch: int,
    ) -> Subscription:
        """Join `group`; its queues get what it was provisioned for."""
        try:
            missing = await self._topology.absent_queues([group])
        except TransportUnavailableError as error:
            raise BrokerError(self._place, error.why, "Try it again when the broker is there") from error
        if missing:
            fix = "Provision the group: start an application that may"
            raise BrokerError(self._place, f"the group {group} lacks {', '.join(missing)}", fix)
        self._check_channels(len(self._subscriptions) + 1)
        subscription = RabbitMQSubscription(self._consuming, self._names, group, prefetch)
        self._subscriptions.append(subscription)
        return subscription

    def _check_channels(self, groups: int) -> None:
        most = self._consuming.most_channels
        if 0 < most < groups * self._lanes:
            what = f"{groups} groups with {self._lanes} lanes need as many channels, and it allows {most}"
            raise BrokerError(self._place, what, "Raise its channel_max, or start the groups in several processes")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
