"""Publishes batches: whatever has different keys at once, and of a key one envelope after the other.

The next envelope of a key is sent when the broker has confirmed the one before, and never when it has not. A broker may
refuse an envelope and take the next: a queue that was full has room again, an exchange was made meanwhile. With both
under way, what is repeated would arrive behind what came after it. Keys do not wait for each other, so this costs
nothing where a batch has many; a single key goes as fast as the broker confirms, one or two milliseconds each.

How they are written is `writing.py`'s. Where the client's channel is not what that was made for, its own way is taken.
"""

import asyncio
import re
from asyncio import Future, Queue
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from aiormq.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import DeliveryError as NotConfirmed

from mediator.errors import DeliveryError, PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.transports.rabbitmq.connection import REFUSALS, Connection, said
from mediator.transports.rabbitmq.messages import MOST_BYTES, Message
from mediator.transports.rabbitmq.topology import Names, Topology
from mediator.transports.rabbitmq.writing import (
    USUAL_FRAME,
    can_be_written_at_once,
    frame_bytes_of,
    portions,
    written_at_once,
)

__all__ = ["Publisher"]

_DEADLINE_SECONDS: Final = 10.0
_TOO_LARGE: Final = re.compile(r"message size \d+ is larger than configured max size (\d+)")
_UNKNOWN: Final = "nobody has provisioned this topic: is its publisher registered, and its name right?"

_Outcome = tuple[Envelope, DeliveryError | None]
_Key = deque[Envelope]
"""What is left to be published of a key."""


@dataclass
class _Batch:
    """What is left of a batch."""

    ready: deque[_Key]
    """Keys of which the next one may be sent."""
    until: float
    """The end of its deadline."""
    under_way: dict[Future[Any], _Key] = field(default_factory=dict)
    confirmed: Queue[Future[Any]] = field(default_factory=Queue)
    channel: AbstractChannel | None = None

    def sent(self, confirmation: Future[Any]) -> None:
        """The first one that was ready is on its way."""
        self.under_way[confirmation] = self.ready.popleft()
        confirmation.add_done_callback(self.confirmed.put_nowait)


class Publisher:
    """Publishes over one connection."""

    def __init__(self, connection: Connection, topology: Topology, names: Names, lanes: int) -> None:
        self._connection, self._topology = connection, topology
        self._names, self._lanes = names, lanes
        self._channel: AbstractChannel | None = None
        self._silent: AbstractChannel | None = None
        """One that confirmed nothing until a deadline: it may be stuck, and another one not."""
        self._opening = asyncio.Lock()
        self._known: set[str] = set()
        self._known_since = 0
        self._most_bytes = MOST_BYTES
        self.deadline = _DEADLINE_SECONDS
        self.writes_at_once = True

    async def publish(self, envelopes: Sequence[Envelope]) -> AsyncIterator[_Outcome]:
        """Give the outcome of each as it becomes known."""
        batch = _Batch(_by_key(envelopes), asyncio.get_running_loop().time() + self.deadline)
        try:
            while batch.ready or batch.under_way:
                for outcome in await self._send(batch):
                    yield outcome
                for outcome in await self._finish(batch):
                    yield outcome
        finally:
            for confirmation in batch.under_way:
                confirmation.cancel()

    async def _send(self, batch: _Batch) -> list[_Outcome]:
        """Send what is ready; gives what could not be sent, and what comes after it."""
        if not batch.ready:
            return []
        place = self._connection.place
        error: DeliveryError
        refused: list[_Outcome] = []
        try:
            async with asyncio.timeout_at(batch.until):
                channel = batch.channel = await self._open_channel()
                refused, messages = await self._prepared(batch, frame_bytes_of(channel))
                # It would keep what is written now, and take it at some time.
                await self._connection.until_unblocked()
                for portion in portions(messages):
                    for confirmation in await self._write(channel, portion):
                        batch.sent(confirmation)
                return refused
        except TimeoutError:
            why = f"it takes nothing since {self.deadline:g} s: is it short of memory or disk?"
            error = TransportUnavailableError(place, why)
        except TransportUnavailableError as unavailable:
            error = unavailable
        except (*REFUSALS, OSError, RuntimeError) as lost:
            error = TransportUnavailableError(place, f"the channel was lost ({said(lost)})")
        refused += [(envelope, error) for key in batch.ready for envelope in key]
        batch.ready.clear()
        return refused

    async def _prepared(self, batch: _Batch, frame_bytes: int) -> tuple[list[_Outcome], list[Message]]:
        """The next message of each key that is ready; keys of which it cannot be sent end with it."""
        unknown = await self._unknown({key[0].topic for key in batch.ready})
        refused: list[_Outcome] = []
        messages: list[Message] = []
        sendable: deque[_Key] = deque()
        for key in batch.ready:
            message, why = self._message(key[0], frame_bytes)
            if key[0].topic in unknown:
                why = _UNKNOWN
            if message is not None and why is None:
                messages.append(message)
                sendable.append(key)
            else:
                error = PublishRefusedError(self._connection.place, key[0].topic, why or "")
                refused += [(envelope, error) for envelope in key]
        batch.ready = sendable
        return refused, messages

    def _message(self, envelope: Envelope, frame_bytes: int) -> tuple[Message | None, str | None]:
        try:
            message = Message(envelope, self._lanes)
            return message, message.wrong_with(self._most_bytes, frame_bytes)
        except ValueError as error:
            return None, f"it cannot be written: {error}"

    async def _unknown(self, topics: set[str]) -> set[str]:
        """Which of these topics nobody has provisioned; of one that is known, the broker is asked once."""
        if self._known_since != self._connection.epoch:
            self._known, self._known_since = set(), self._connection.epoch
        names = {self._names.topic(topic): topic for topic in topics - self._known}
        absent = {names[name] for name in await self._topology.absent_exchanges(sorted(names))}
        self._known |= topics - absent
        return absent

    async def _open_channel(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is not None and self._channel is self._silent:
                await self._connection.close_channel(self._channel)
                self._channel = self._silent = None
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._connection.open_channel(confirms=True)
            return self._channel

    async def _write(self, channel: AbstractChannel, messages: Sequence[Message]) -> Sequence[Future[Any]]:
        if self.writes_at_once and isinstance(channel, Channel) and can_be_written_at_once(channel):
            return await written_at_once(channel, messages, self._names.exchange)
        return [
            asyncio.ensure_future(
                channel.basic_publish(
                    message.body,
                    exchange=self._names.exchange,
                    routing_key=message.routing_key,
                    properties=message.properties,
                )
            )
            for message in messages
        ]

    async def _finish(self, batch: _Batch) -> list[_Outcome]:
        """Wait for the broker's word; gives all outcomes that are known by then. The deadline is an outcome, too."""
        if not batch.under_way:
            return []
        try:
            async with asyncio.timeout_at(batch.until):
                finished = [await batch.confirmed.get()]
        except TimeoutError:
            finished = []
            self._silent = batch.channel
        while not batch.confirmed.empty():
            finished.append(batch.confirmed.get_nowait())
        outcomes: list[_Outcome] = []
        for confirmation in finished or list(batch.under_way):
            key = batch.under_way.pop(confirmation)
            if (error := self._error(confirmation, key[0])) is not None:
                outcomes += [(envelope, error) for envelope in key]
                continue
            outcomes.append((key.popleft(), None))
            if key:
                batch.ready.append(key)
        return outcomes

    def _error(self, confirmation: Future[Any], envelope: Envelope) -> DeliveryError | None:
        place = self._connection.place
        if not confirmation.done():
            confirmation.cancel()
            return TransportUnavailableError(place, f"it has confirmed nothing within {self.deadline:g} s")
        error = asyncio.CancelledError() if confirmation.cancelled() else confirmation.exception()
        if error is None:
            return None
        if isinstance(error, NotConfirmed):
            return TransportUnavailableError(place, "a queue of this topic takes nothing: it is full, or has failed")
        if isinstance(error, ChannelPreconditionFailed) and (limit := _TOO_LARGE.search(said(error))):
            # The channel has ended, and what was under way besides this one is to be published again.
            self._most_bytes = min(self._most_bytes, int(limit[1]))
            if (why := Message(envelope, self._lanes).wrong_with(self._most_bytes, USUAL_FRAME)) is not None:
                return PublishRefusedError(place, envelope.topic, why)
        return TransportUnavailableError(place, f"the channel was lost before it confirmed ({said(error)})")


def _by_key(envelopes: Sequence[Envelope]) -> deque[_Key]:
    """Those of a key one behind the other, and those without a key each alone."""
    keys: dict[object, _Key] = {}
    for number, envelope in enumerate(envelopes):
        keys.setdefault(number if envelope.key is None else envelope.key, deque()).append(envelope)
    return deque(keys.values())
