"""The transport protocol: how envelopes travel. Every promise here is a test of the conformance suite.

The core owns concurrency, order within a process, retries and dead letters; a transport moves envelopes and knows
nothing of handlers. `None` as the outcome of a publication means confirmed and routed; anything else means unknown,
and the envelope is published again with the same id.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol
from zlib import crc32

from mediator.errors import Fault
from mediator.messaging.envelope import Envelope

__all__ = ["Capabilities", "Delivery", "Health", "Publisher", "Settlement", "Subscription", "Transport", "lane_of"]


class Settlement(Enum):
    """What becomes of a delivery."""

    ACK = "ack"
    """Taken care of: never deliver it again."""
    GIVE_BACK = "give back"
    """Not handled (shutdown, database outage): deliver it again, to anybody of the group."""
    REJECT = "reject"
    """Cannot be taken care of here: put it aside where the broker has a place for that."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a transport can do by itself."""

    durable: bool
    """Keeps a confirmed envelope through a crash of the broker or, in process, confirms only what is handled."""
    ordered: bool
    """Keeps the order of a partition key."""
    wildcards: bool = False
    """Subscribes to patterns of topics; where it cannot, an application that has some does not start."""
    in_process: bool = False
    """Delivers to nobody but this process, so whoever relays has to consume as well."""
    lanes: int = 0
    """Into how many lanes it sorts the keys of a group. Each lane has one member of the group at a time, which is what
    keeps the order of keys over several processes; who has which is settled outside of the transport. 0 if it needs
    nobody's help for that."""


def lane_of(envelope: Envelope, lanes: int) -> int:
    """The lane of an envelope: that of its key; without a key any, but always the same."""
    return crc32(str(envelope.event_id if envelope.key is None else envelope.key).encode()) % lanes


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the transport can be reached, and how long a round trip took."""

    ok: bool
    round_trip: timedelta
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """One arrival of an envelope, not read yet. Compared by identity: a redelivery is another one."""

    topic: str
    headers: Mapping[str, str]
    body: bytes
    event_id: str | None = None
    key: str | None = None
    attempt: int = 1
    """Which arrival this is as far as the broker knows; more than 1 means redelivered."""
    lane: int = 0
    epoch: int = 0
    """Changes when the connection is lost: settling with an old one is ignored."""


class Subscription(Protocol):
    """A group's share of its topics."""

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What is waiting, at most so many; waits up to `timeout` for the first. Never waits to fill up."""
        ...

    async def take(self, lanes: Collection[int]) -> None:
        """Receive from these lanes from now on, and from no other; none at first. Only where there are lanes.

        What is unsettled of a lane that is new here comes first, in order, as a redelivery: whoever had it is gone.
        Of a lane that is given up nothing more is fetched; what was fetched of it may still be settled.
        """
        ...

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Say what became of deliveries, in any order; those of an old epoch are ignored."""
        ...

    async def widen(self, topics: Sequence[str]) -> None:
        """Receive these topics as well, which were provisioned for the group; what is under way stays as it is."""
        ...

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Keep deliveries that take long from being delivered to somebody else; called every ten seconds."""
        ...

    async def close(self) -> None:
        """Stop receiving; what is not settled is delivered again."""
        ...


class Publisher(Protocol):
    """Where a relay hands envelopes over."""

    @property
    def name(self) -> str:
        """The scheme of its URL."""
        ...

    def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Publish, and give each envelope's outcome as it becomes known: None (confirmed and routed) or the error.

        Gives exactly one outcome for each, in any order, within its own deadline; never raises for one of them; never
        repeats one in secret. PublishRefusedError means that there is something wrong with this envelope or its topic
        (it was not routed, it is too large), TransportUnavailableError that the broker cannot be reached or did not
        answer. Of a key, nothing is published after the first that failed: what follows ends with the same error.
        """
        ...


class Transport(Publisher, Protocol):
    """A way for envelopes to travel."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do by itself."""
        ...

    async def open(self) -> None:
        """Connect; raises BrokerError when the address cannot work, or nobody answers there.

        Once open, it connects again by itself, as often as it takes.
        """
        ...

    async def close(self) -> None:
        """Disconnect; publications that are under way end with an error as their outcome."""
        ...

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Make what the broker needs for these topics, and for these groups with what they listen to.

        A group that was provisioned misses nothing that is published afterwards, whether a member is there or not.
        Doing it again changes nothing; topics and groups of others stay as they are. Nothing else makes anything on
        the broker. With `create=False` it only looks, and raises BrokerError with all that is missing.
        """
        ...

    async def check(self) -> Sequence[Fault]:
        """What of the broker's settings, as far as they can be read, breaks a promise; each with what to do."""
        ...

    async def health(self) -> Health:
        """Ask the broker for a sign of life."""
        ...

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """How many envelopes wait for each of these groups or are not settled, as far as the broker tells.

        Raises TransportUnavailableError when it does not answer.
        """
        ...

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Join `group`: every group gets a copy of each envelope, its members share them; `prefetch` at once.

        Topics are addresses, and patterns (`messaging/patterns.py`) if the transport is capable of them. An envelope
        that several of them mean arrives once. Raises BrokerError when the group was not provisioned.
        """
        ...
