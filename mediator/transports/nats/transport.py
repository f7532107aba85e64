"""NATS JetStream, from version 2.9 on: one stream for all topics, one consumer for each group and lane.

    MediatorApp("shop", ..., transport="nats://user:password@host:4222?prefix=shop&lanes=16")

An envelope is confirmed when JetStream has stored it. Its lane is a part of the subject, so the order of a key holds
across topics; who has which lane is settled in the database, and a lane that changes hands begins with what the former
owner left unsettled (subscription.py). JetStream writes to its disk every two minutes unless it is told to do so
always: what that means, and what else it needs, is in docs/how-to/nats.md.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta

from mediator.errors import BrokerError, Fault, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Capabilities, Health, Subscription
from mediator.transports.nats.address import NatsAddress
from mediator.transports.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from mediator.transports.nats.consumers import Consumers, consumer_names
from mediator.transports.nats.publishing import Confirmations, Publication
from mediator.transports.nats.streams import KnownTopics, Streams
from mediator.transports.nats.subscription import NatsSubscription

__all__ = ["NatsTransport"]


class NatsTransport:
    """The transport for `nats://` and `tls://`."""

    def __init__(self, url: str) -> None:
        self._address = NatsAddress.of(url)
        self._connection = NatsConnection(self._address)
        self._confirmations = Confirmations(self._connection)
        self._connection.listeners.add(self._confirmations)
        self._streams, self._topics = Streams(self._connection), KnownTopics(self._connection)
        self._subscriptions: set[NatsSubscription] = set()

    @property
    def name(self) -> str:
        """The scheme of its URL."""
        return self._address.scheme

    @property
    def capabilities(self) -> Capabilities:
        """Durable, ordered by lanes, with patterns."""
        return Capabilities(durable=True, ordered=True, wildcards=True, lanes=self._address.lanes)

    async def open(self) -> None:
        """Connect."""
        await self._connection.open()

    async def close(self) -> None:
        """Disconnect; what is not settled comes again."""
        for subscription in list(self._subscriptions):
            await subscription.close()
        self._subscriptions.clear()
        await self._connection.close()

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Make the streams, write the topics down, and make the consumers of the groups, which hold what comes."""
        try:
            missing = await self._streams.missing(create=create)
            # Before the topics: nothing may be published that a group would miss.
            missing += await self._provision_groups(groups, create=create)
            missing += await self._provision_topics(topics, create=create and not missing)
        except (TransportUnavailableError, JetStreamError) as error:
            fix = "Compare the server's log, and what the account may do; then start again"
            raise BrokerError(str(self._address), f"provisioning failed ({error})", fix) from error
        if missing:
            fix = "Let a process make them that may"
            raise BrokerError(str(self._address), f"these are missing: {', '.join(missing)}", fix)

    async def check(self) -> Sequence[Fault]:
        """The settings of the streams; how often the server writes to its disk cannot be read."""
        try:
            return await self._streams.faults()
        except (TransportUnavailableError, JetStreamError) as error:
            fix = "Compare the server's log, and what the account may do"
            return [Fault("broker", f"stream {self._address.stream}", f"it cannot be looked at ({error})", fix)]

    async def health(self) -> Health:
        """Ask JetStream for the state of the stream."""
        now = asyncio.get_running_loop().time
        began = now()
        try:
            found = await self._streams.info(self._address.stream)
        except (TransportUnavailableError, JetStreamError) as error:
            return Health(ok=False, round_trip=timedelta(seconds=now() - began), detail=str(error))
        detail = "" if found is not None else f"stream {self._address.stream} is missing"
        return Health(ok=True, round_trip=timedelta(seconds=now() - began), detail=detail)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Publish, of each key one after the other."""
        outcomes = Publication(self._connection, self._confirmations, batch).outcomes(self._topics)
        try:
            async for outcome in outcomes:
                yield outcome
        finally:
            await outcomes.aclose()

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """What their consumers hold; what their members are going to pass over counts until then."""
        while True:
            try:
                names = await consumer_names(self._connection)
                return {group: await Consumers(self._connection, group).backlog(names) for group in groups}
            except JetStreamError as error:
                # A lane that has just changed hands has another consumer.
                if error.code != NOT_FOUND:
                    raise TransportUnavailableError(self.name, str(error)) from error

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Join `group`."""
        consumers = Consumers(self._connection, group)
        try:
            missing = consumers.missing(await consumer_names(self._connection))
        except (TransportUnavailableError, JetStreamError) as error:
            fix = "Compare the server's log, and what the account may do"
            raise BrokerError(str(self._address), f"group {group} cannot be joined ({error})", fix) from error
        if missing:
            raise BrokerError(str(self._address), f"group {group} was not provisioned", "Provision it first")
        subscription = NatsSubscription(self._connection, consumers, topics, prefetch)
        self._subscriptions.add(subscription)
        return subscription

    async def _provision_groups(self, groups: Mapping[str, Collection[str]], *, create: bool) -> list[str]:
        missing = []
        names = await consumer_names(self._connection)
        for group in sorted(groups):
            consumers = Consumers(self._connection, group)
            lanes = consumers.missing(names)
            if lanes and create:
                await consumers.create(lanes)
            elif lanes:
                missing.append(f"group {group}")
        return missing

    async def _provision_topics(self, topics: Collection[str], *, create: bool) -> list[str]:
        if await self._streams.info(self._address.topics_stream) is None:
            return [f"topic {topic}" for topic in sorted(topics)]
        unknown = await self._topics.unknown(topics)
        if create:
            await self._topics.write_down(unknown)
            return []
        return [f"topic {topic}" for topic in sorted(unknown)]
