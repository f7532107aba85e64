"""In process: envelopes go from the relay to the consumers of the same process, without a copy and without a broker.

An envelope is confirmed when every group that listens has acknowledged it, which a group does when each of its
handlers has committed, skipped, parked or given up. Until then its row stays in the outbox: if the process dies,
nothing is lost, and no table is needed for the way. A slow handler holds back its own envelopes; others only when as
many rows as the relay keeps in flight wait for it.
The time that a publication may take is therefore bounded by the handlers' timeouts; closing ends it at once.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from mediator.errors import Fault, TransportUnavailableError
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.patterns import listens
from mediator.messaging.transport import Capabilities, Delivery, Health, Settlement, Subscription

__all__ = ["MemoryTransport"]


@dataclass(eq=False)
class _Publication:
    """An envelope that waits for its groups."""

    envelope: Envelope
    outcomes: "asyncio.Queue[tuple[Envelope, Exception | None]]"
    waiting_for: set[str] = field(default_factory=set)
    ended: bool = False

    def settled(self, group: str) -> None:
        self.waiting_for.discard(group)
        if not self.waiting_for:
            self.end(None)

    def end(self, error: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self.outcomes.put_nowait((self.envelope, error))


@dataclass(eq=False)
class _Group:
    """A group's topics and what waits for it. Its length is bounded by what the relay keeps in flight."""

    topics: set[str]
    waiting: deque[tuple[Delivery, _Publication]] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    members: int = 0

    def put(self, delivery: Delivery, publication: _Publication, *, first: bool = False) -> None:
        (self.waiting.appendleft if first else self.waiting.append)((delivery, publication))
        self.arrived.set()


class MemoryTransport:
    """The default transport."""

    name = "memory"
    capabilities = Capabilities(durable=True, ordered=True, wildcards=True, in_process=True)

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._publications: set[_Publication] = set()
        self._open = False

    async def open(self) -> None:
        """Nothing to connect to."""
        self._open = True

    async def close(self) -> None:
        """What is not acknowledged yet ends as unavailable: its rows stay in the outbox."""
        self._open = False
        for publication in list(self._publications):
            publication.end(TransportUnavailableError(self.name, "closed"))
        self._groups.clear()

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Nothing to make."""

    async def check(self) -> Sequence[Fault]:
        """Nothing to set."""
        return ()

    async def health(self) -> Health:
        """Well while open."""
        return Health(self._open, timedelta(0))

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Hand each envelope to every group that listens; confirmed at once when none does."""
        outcomes: asyncio.Queue[tuple[Envelope, Exception | None]] = asyncio.Queue()
        mine = [self._hand_out(envelope, outcomes) for envelope in batch]
        try:
            for _ in batch:
                yield await outcomes.get()
        finally:
            self._publications.difference_update(mine)

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """Nothing: what is not settled is still in the outbox."""
        return dict.fromkeys(groups, 0)

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Join `group`."""
        joined = self._groups.setdefault(group, _Group(set()))
        joined.topics.update(topics)
        joined.members += 1
        return _MemorySubscription(group, joined, prefetch)

    def _hand_out(
        self, envelope: Envelope, outcomes: "asyncio.Queue[tuple[Envelope, Exception | None]]"
    ) -> _Publication:
        publication = _Publication(envelope, outcomes)
        self._publications.add(publication)
        groups = {name: group for name, group in self._groups.items() if listens(group.topics, envelope.topic)}
        if not self._open:
            publication.end(TransportUnavailableError(self.name, "closed"))
        elif not groups:
            publication.end(None)
        else:
            publication.waiting_for.update(groups)
            headers = to_headers(envelope)
            for group in groups.values():
                # Handed over before without an outcome: perhaps it is what killed the process.
                group.put(_delivery(envelope, headers, attempt=1 + envelope.handed_over), publication)
        return publication


class _MemorySubscription:
    """One member of a group."""

    def __init__(self, name: str, group: _Group, prefetch: int) -> None:
        self._name, self._group, self._prefetch = name, group, prefetch
        self._taken: dict[Delivery, _Publication] = {}

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What is waiting, in the order of publication."""
        if not self._group.waiting or len(self._taken) >= self._prefetch:
            self._group.arrived.clear()
            try:
                async with asyncio.timeout(timeout.total_seconds()):
                    await self._group.arrived.wait()
            except TimeoutError:
                return []
        room = min(at_most, self._prefetch - len(self._taken), len(self._group.waiting))
        taken = [self._group.waiting.popleft() for _ in range(max(room, 0))]
        self._taken.update(taken)
        return [delivery for delivery, _ in taken]

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Acknowledge, or put back at the head for whoever fetches next."""
        for delivery, settlement in outcomes:
            publication = self._taken.pop(delivery, None)
            if publication is None:
                continue
            self._group.arrived.set()
            if settlement is Settlement.GIVE_BACK:
                again = _delivery(publication.envelope, delivery.headers, attempt=delivery.attempt + 1)
                self._group.put(again, publication, first=True)
            else:
                publication.settled(self._name)

    async def take(self, lanes: Collection[int]) -> None:
        """There are none."""

    async def widen(self, topics: Sequence[str]) -> None:
        """The whole group has these topics from now on."""
        self._group.topics.update(topics)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing expires in process."""

    async def close(self) -> None:
        """Give back what is not settled."""
        await self.settle([(delivery, Settlement.GIVE_BACK) for delivery in reversed(self._taken)])
        self._group.members -= 1


def _delivery(envelope: Envelope, headers: Mapping[str, str], attempt: int) -> Delivery:
    return Delivery(
        topic=envelope.topic,
        headers=headers,
        body=envelope.body,
        event_id=str(envelope.event_id),
        key=envelope.key,
        attempt=attempt,
    )
