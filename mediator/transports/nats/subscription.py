"""A member of a group on JetStream: a consumer for each of its lanes, made anew whenever the lane changes hands.

JetStream gives a message that was not acknowledged to somebody else when its time is over, and then behind later ones.
So whoever takes a lane, or has lost the connection, makes a consumer under a new name that begins right after what is
acknowledged without a gap, and deletes the former one: everything unsettled comes first and in order. In this order of
doing, a crash in between leaves two of them, and the later one is right. What had been acknowledged above the gap comes
again; the inbox skips it. Settling what came by way of the former consumer reaches nobody.

A message that is lost between server and client is noticed by the consumer's own numbers, and mended the same way.
"""

import asyncio
import json
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Final
from urllib.parse import unquote

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Inbox

from mediator.errors import TransportUnavailableError
from mediator.messaging.patterns import listens
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.nats.connection import NatsConnection
from mediator.transports.nats.consumers import Consumers, Position

__all__ = ["NatsSubscription"]

log = structlog.get_logger(__name__)

_TICK_SECONDS: Final = 1.0
_EXTEND_SECONDS: Final = 10.0
_PULL_SECONDS: Final = 10
_SILENCE_SECONDS: Final = _PULL_SECONDS + 5.0
"""After that, a request that was not even answered with "nothing there" has nobody who could answer."""
_CONTESTED_SECONDS: Final = 5.0
_LEAST_WINDOW: Final = 8
_ACK, _TERM, _IN_PROGRESS = b"+ACK", b"+TERM", b"+WPI"
_PARTS_WITHOUT_DOMAIN: Final = 9
_NOTHING_THERE: Final = {"404", "408"}


@dataclass(eq=False, slots=True)
class _Lane:
    """A lane that is received from."""

    number: int
    position: Position
    buffer: "deque[_Arrival]" = field(default_factory=deque)
    """What has arrived and was not fetched, in the order of the stream."""
    next_number: int = 1
    asked: int = 0
    """How many messages the request that is under way may still bring."""
    asked_until: float = 0
    last_settled: str = ""

    def put(self, arrival: "_Arrival") -> None:
        """Put it where it belongs: what was given back comes before what is behind it in the stream."""
        later: list[_Arrival] = []
        while self.buffer and self.buffer[-1].sequence > arrival.sequence:
            later.append(self.buffer.pop())
        self.buffer.append(arrival)
        self.buffer.extend(reversed(later))


@dataclass(eq=False, slots=True)
class _Arrival:
    """A message, and how to say what became of it."""

    lane: _Lane
    sequence: int
    reply: str
    delivery: Delivery


class NatsSubscription:
    """One member of a group."""

    def __init__(self, connection: NatsConnection, consumers: Consumers, topics: Sequence[str], prefetch: int) -> None:
        self._connection, self._consumers = connection, consumers
        self._topics, self._prefetch = set(topics), prefetch
        self._wanted: frozenset[int] = frozenset()
        self._lanes: dict[int, _Lane] = {}
        self._by_consumer: dict[str, _Lane] = {}
        self._not_before: dict[int, float] = {}
        """Lanes whose consumer somebody deleted: perhaps the other one has to be told by the core yet."""
        self._open: dict[Delivery, _Arrival] = {}
        self._news, self._wake = asyncio.Event(), asyncio.Event()
        self._changing = asyncio.Lock()
        self._inbox: Inbox | None = None
        self._requests = count()
        self._now = asyncio.get_running_loop().time
        self._extend_at = self._now() + _EXTEND_SECONDS
        connection.listeners.add(self)
        group = consumers.group
        self._keeper = asyncio.create_task(keep_running(f"nats.{group}", self._keep), name=f"nats.{group}")

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What has arrived, a part from each lane in turn."""
        until = self._now() + timeout.total_seconds()
        while True:
            self._news.clear()
            if found := await self._taken(min(at_most, self._prefetch - len(self._open))):
                return found
            if not await happens(self._news, until - self._now()):
                return []

    async def take(self, lanes: Collection[int]) -> None:
        """Give up the other lanes, and begin anew with those that are new here."""
        self._wanted = frozenset(lanes)
        async with self._changing:
            await self._give_up(self._lanes.keys() - self._wanted)
            self._not_before.clear()
            with suppress(TransportUnavailableError):  # done when there is a connection again
                await self._begin()

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Acknowledge, or put back: the lane is nobody else's, so nobody else could have it sooner."""
        late = []
        with suppress(TransportUnavailableError):  # they come again
            for delivery, settlement in outcomes:
                arrival = self._open.pop(delivery, None)
                if arrival is None:
                    continue
                self._news.set()
                is_ours = self._lanes.get(arrival.lane.number) is arrival.lane
                how = _TERM if settlement is Settlement.REJECT else _ACK
                if settlement is Settlement.GIVE_BACK and is_ours:
                    arrival.delivery = replace(delivery, attempt=delivery.attempt + 1)
                    arrival.lane.put(arrival)
                elif settlement is not Settlement.GIVE_BACK and is_ours:
                    await self._settled(arrival.lane, arrival.reply, how)
                elif settlement is not Settlement.GIVE_BACK:
                    late.append(self._connection.ask(arrival.reply, how))
        # Whoever takes the lane next should find it said.
        await asyncio.gather(*late, return_exceptions=True)

    async def widen(self, topics: Sequence[str]) -> None:
        """Keep these from now on."""
        self._topics.update(topics)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the server that they are being worked on."""
        await self._extend([self._open[delivery] for delivery in deliveries if delivery in self._open])

    async def close(self) -> None:
        """Leave: what is not settled comes to whoever takes the lanes next."""
        self._connection.listeners.discard(self)
        self._keeper.cancel()
        await ended([self._keeper])
        self._wanted = frozenset()
        async with self._changing:
            await self._give_up(self._lanes.keys())
        self._open.clear()
        if self._inbox is not None:
            with suppress(OSError, nats.errors.Error):
                await self._inbox.unsubscribe()
        self._news.set()

    def lost(self) -> None:
        """What was given out on the connection comes again on the next one."""
        self._lanes.clear()
        self._by_consumer.clear()
        self._open.clear()
        self._inbox = None
        self._news.set()

    def connected(self) -> None:
        """Begin anew with every lane."""
        self._wake.set()

    async def _keep(self) -> None:
        """What is to be done from time to time, whoever calls or does not."""
        while True:
            await happens(self._wake, _TICK_SECONDS)
            self._wake.clear()
            with suppress(TransportUnavailableError):
                async with self._changing:
                    await self._begin()
                for lane in list(self._lanes.values()):
                    if lane.asked and self._now() > lane.asked_until:
                        self._deleted(lane)
                    else:
                        await self._ask(lane)
                if self._now() >= self._extend_at:
                    self._extend_at = self._now() + _EXTEND_SECONDS
                    await self._extend([arrival for lane in self._lanes.values() for arrival in lane.buffer])

    async def _begin(self) -> None:
        """Make the consumers of lanes that have none here yet."""
        now = self._now()
        numbers = [lane for lane in self._wanted - self._lanes.keys() if self._not_before.get(lane, 0) <= now]
        if not numbers:
            return
        client = self._connection.client
        if self._inbox is None:
            try:
                # Its own limits would drop messages without telling; what is asked for bounds them.
                self._inbox = await client.subscribe(
                    f"{client.new_inbox()}.*.*", cb=self._arrived, pending_bytes_limit=0
                )
            except (OSError, nats.errors.Error) as error:
                raise TransportUnavailableError(self._connection.address.scheme, str(error)) from error
        inbox = self._inbox
        renewed = await self._consumers.renewed(numbers, at_once=2 * (self._prefetch + self._window))
        if self._inbox is not inbox:
            return
        for number, position in renewed.items():
            if isinstance(position, Position):
                lane = _Lane(number, position)
                self._lanes[number] = self._by_consumer[position.consumer] = lane
                await self._ask(lane)
            else:
                log.error("transport.lane_unavailable", group=self._consumers.group, lane=number, error=str(position))
                self._not_before[number] = now + _CONTESTED_SECONDS

    async def _give_up(self, numbers: Collection[int]) -> None:
        settled = [lane.last_settled for number in list(numbers) if (lane := self._lanes.get(number)) is not None]
        for number in list(numbers):
            lane = self._lanes.pop(number)
            del self._by_consumer[lane.position.consumer]
        # Acknowledging the last one again is answered, and after all that came before.
        waiting = (self._connection.ask(reply, _ACK) for reply in settled if reply)
        await asyncio.gather(*waiting, return_exceptions=True)

    def _deleted(self, lane: _Lane) -> None:
        """Somebody who took the lane has deleted its consumer: leave it alone for a while, then look who has it."""
        self._not_before[lane.number] = self._now() + _CONTESTED_SECONDS
        self._close(lane)

    def _close(self, lane: _Lane) -> None:
        """Begin anew with a lane."""
        if self._lanes.get(lane.number) is lane:
            del self._lanes[lane.number], self._by_consumer[lane.position.consumer]
            self._wake.set()

    async def _taken(self, room: int) -> list[Delivery]:
        found: list[Delivery] = []
        while room > len(found) and (lanes := [lane for lane in self._lanes.values() if lane.buffer]):
            each = max(1, (room - len(found)) // len(lanes))
            for lane in lanes[: room - len(found)]:
                for _ in range(min(each, len(lane.buffer))):
                    arrival = lane.buffer.popleft()
                    self._open[arrival.delivery] = arrival
                    found.append(arrival.delivery)
                # The next time another one is first.
                self._lanes[lane.number] = self._lanes.pop(lane.number)
        with suppress(TransportUnavailableError):
            for number in {delivery.lane for delivery in found}:
                await self._ask(self._lanes[number])
        return found

    @property
    def _window(self) -> int:
        """How many messages of a lane may be on their way or wait here."""
        share = 2 * self._prefetch // max(1, len(self._wanted))
        return max(1, min(self._prefetch, max(_LEAST_WINDOW, share)))

    async def _ask(self, lane: _Lane) -> None:
        """Ask for as many messages as there is room for, unless some are still to come or enough wait."""
        window = self._window
        if lane.asked or len(lane.buffer) > window // 2 or self._inbox is None:
            return
        lane.asked, lane.asked_until = window - len(lane.buffer), self._now() + _SILENCE_SECONDS
        request = {"batch": lane.asked, "expires": _PULL_SECONDS * 10**9}
        reply = f"{self._inbox.subject[:-4]}.{lane.position.consumer}.{next(self._requests)}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._connection.address.stream}.{lane.position.consumer}"
        await self._connection.say(subject, json.dumps(request).encode(), reply)

    async def _arrived(self, message: Msg) -> None:
        with suppress(TransportUnavailableError):
            if message.reply.startswith("$JS.ACK."):
                await self._received(message)
            else:
                await self._told(message)

    async def _told(self, message: Msg) -> None:
        """A request is over."""
        lane = self._by_consumer.get(message.subject.split(".")[-2])
        if lane is None:
            return
        status = (message.headers or {}).get("Status")
        lane.asked = 0
        if status in _NOTHING_THERE:
            await self._ask(lane)
        elif "Deleted" in str(message.headers):
            self._deleted(lane)
        # Anything else passes: it is asked again at the next tick.

    async def _received(self, message: Msg) -> None:
        consumer, delivered, sequence, number = _parts(message.reply)
        lane = self._by_consumer.get(consumer)
        if lane is None:
            return
        if number != lane.next_number:
            self._close(lane)
            return
        lane.next_number += 1
        lane.asked = max(0, lane.asked - 1)
        topic = self._connection.address.topic(message.subject)
        if listens(self._topics, topic):
            attempt = delivered + (sequence <= lane.position.delivered_before)
            delivery = _delivery(message, topic, attempt, lane.position)
            lane.put(_Arrival(lane, sequence, message.reply, delivery))
            self._news.set()
        else:
            await self._settled(lane, message.reply, _ACK)
        await self._ask(lane)

    async def _settled(self, lane: _Lane, reply: str, how: bytes) -> None:
        lane.last_settled = reply
        await self._connection.say(reply, how)

    async def _extend(self, arrivals: Sequence[_Arrival]) -> None:
        with suppress(TransportUnavailableError):
            for arrival in arrivals:
                await self._connection.say(arrival.reply, _IN_PROGRESS)


def _parts(reply: str) -> tuple[str, int, int, int]:
    """Of `$JS.ACK.[domain.account.]stream.consumer.delivered.sequence.number.…`: the consumer and the numbers."""
    parts = reply.split(".")
    at = 3 if len(parts) == _PARTS_WITHOUT_DOMAIN else 5
    return parts[at], int(parts[at + 1]), int(parts[at + 2]), int(parts[at + 3])


def _delivery(message: Msg, topic: str, attempt: int, position: Position) -> Delivery:
    # Whatever it holds, it is handed on: what is wrong with it is found out by who reads it.
    headers = {_header_name(str(name)): value for name, value in (message.headers or {}).items()}
    key = headers.get("ce-partitionkey")
    return Delivery(
        topic=topic,
        headers=headers,
        body=message.data,
        event_id=headers.get("ce-id"),
        key=None if key is None else unquote(key),
        attempt=attempt,
        lane=position.lane,
        epoch=position.epoch,
    )


def _header_name(name: str) -> str:
    lower = name.lower()
    return lower if lower.startswith("ce-") or lower == "content-type" else unquote(name)
