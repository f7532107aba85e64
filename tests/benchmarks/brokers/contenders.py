"""Who is compared on a broker, and what each of them has to do.

    publish    a batch of 500 messages of 1 KiB; done when the broker has confirmed each of them
    consume    so many messages that wait there; done when each of them is acknowledged

The bare client and FastStream are given their headers ready made; the transport has to make them of the envelopes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from uuid import uuid4

from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Settlement, Transport

__all__ = [
    "AT_ONCE",
    "BARE",
    "BARE_IN_TURN",
    "BATCH",
    "FASTSTREAM",
    "GROUP",
    "IN_BATCHES",
    "LANES",
    "ONE_BY_ONE",
    "OURS",
    "PREFETCH",
    "TOPIC",
    "Broker",
    "Consumer",
    "Gate",
    "Message",
    "Publish",
    "batches",
    "consumer_of",
    "publisher_of",
    "versions",
]

BATCH, PREFETCH, LANES = 500, 500, 16
TOPIC, GROUP = "bench.shop.public.orders.v1", "shop.billing"
BARE, OURS, FASTSTREAM = "the bare client", "the transport", "FastStream"
BARE_IN_TURN = f"{BARE}, one at a time"
ONE_BY_ONE, AT_ONCE, IN_BATCHES = (f"{FASTSTREAM}, {how}" for how in ("one at a time", "500 at once", "its batches"))
_BODY = b'{"text": "%s"}' % (b"x" * 1_010)
_A_MOMENT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Message:
    """What is published, for whoever does."""

    envelope: Envelope
    headers: Mapping[str, str]

    @property
    def body(self) -> bytes:
        return self.envelope.body

    @property
    def key(self) -> str:
        return self.envelope.key or ""


Publish = Callable[[Sequence[Message]], Awaitable[None]]
"""Returns when all of them are confirmed."""


@dataclass(frozen=True)
class Consumer:
    """Fills its own place, which does not count, and empties it."""

    fill: Publish
    consume: Callable[[int], Awaitable[None]]


class Broker(ABC):
    """A place on a broker, and everybody but the transport."""

    title: str
    """The broker, its version and the settings that say how durable it is."""
    note: str
    """What exactly was compared."""

    @abstractmethod
    def transport(self, name: str) -> Transport:
        """One that is not open yet; what it makes is apart from what those of other names make."""

    @abstractmethod
    def publishers(self) -> AbstractAsyncContextManager[Mapping[str, Publish]]:
        """The bare client and FastStream."""

    @abstractmethod
    def consumers(self) -> AbstractAsyncContextManager[Mapping[str, Consumer]]:
        """They receive already, and as much as they have room for may have arrived when the clock begins."""

    async def empty(self) -> None:  # noqa: B027 - not everybody has to
        """Throw away what was published, where it would be in the way of what comes next."""

    async def settled(self, transport: Transport) -> None:  # noqa: B027 - not everybody has to
        """Returns when all that was settled is, where that goes on in the background."""


def batches(count: int, keys: int) -> list[list[Message]]:
    """So many messages, over so many keys."""
    made = []
    for number in range(count):
        envelope = Envelope(
            event_id=uuid4(),
            topic=TOPIC,
            type="shop.order-placed",
            version="v1",
            body=_BODY,
            occurred_on=datetime.now(UTC),
            source="/shop/ordering",
            key=f"key-{number % keys}",
        )
        made.append(Message(envelope, to_headers(envelope)))
    return [made[first : first + BATCH] for first in range(0, count, BATCH)]


def publisher_of(transport: Transport) -> Publish:
    """The transport, when it is open."""

    async def publish(messages: Sequence[Message]) -> None:
        async for _, error in transport.publish([message.envelope for message in messages]):
            if error is not None:
                raise error

    return publish


async def consumer_of(transport: Transport, settled: Callable[[Transport], Awaitable[None]]) -> Consumer:
    """The only member of a group."""
    subscription = await transport.subscribe(GROUP, [TOPIC], PREFETCH)
    await subscription.take(range(transport.capabilities.lanes))

    async def consume(count: int) -> None:
        while count > 0:
            found = await subscription.fetch(PREFETCH, _A_MOMENT)
            await subscription.settle([(delivery, Settlement.ACK) for delivery in found])
            count -= len(found)
        await settled(transport)

    return Consumer(publisher_of(transport), consume)


def versions(*distributions: str) -> str:
    """Of what was measured."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)


class Gate:
    """Holds back FastStream's handlers, which begin by themselves, until the clock does."""

    def __init__(self) -> None:
        self._open, self._done, self._left = asyncio.Event(), asyncio.Event(), 0

    async def passes(self, messages: int = 1) -> None:
        """A handler has some; it returns when they are to be handled."""
        await self._open.wait()
        self._left -= messages
        if self._left <= 0:
            self._open.clear()
            self._done.set()

    async def consume(self, count: int) -> None:
        """Let so many pass."""
        self._left = count
        self._done.clear()
        self._open.set()
        await self._done.wait()
