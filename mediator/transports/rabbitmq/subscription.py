"""A group's share of its lanes: a channel and a consumer for each lane, and one buffer that `fetch` takes from.

The channel is what keeps the order. When it ends, the broker puts everything back that was received over it and is not
settled: at once, in order, in front of what has not been delivered yet, and before the next consumer of the queue gets
anything. So a lane is closed and opened again whenever something of it has to come again; what was fetched of it after
that one comes again, too, and its settlement is ignored.

    lost          the broker has put back everything by itself; the lanes are opened when it is there again
    given back    nothing more is fetched; the next fetch opens the lane again, and until then settlements count
    given up      nothing more is fetched; closed when what was fetched is settled, after 30 s at the latest

Quorum queues know no prefetch but that of a consumer. Each lane's is large enough for the one that has all there is to
do: the buffer holds up to 50 for each lane, or `prefetch` if that is more. No more than `prefetch` are fetched and
open.

The queues have a single active consumer: who takes a lane gets nothing before the channel of its former owner is
closed, whether that one has yet to settle something, or has lost its lock and not noticed.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from aiormq.abc import DeliveredMessage

from mediator.errors import TransportUnavailableError
from mediator.messaging.supervision import ended, happens, together
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.rabbitmq.connection import REFUSALS, Connection, said
from mediator.transports.rabbitmq.lane import Lane
from mediator.transports.rabbitmq.messages import delivery_of
from mediator.transports.rabbitmq.topology import Names

__all__ = ["RabbitMQSubscription"]

log = structlog.get_logger(__name__)
_SHARE: Final = 50
_FAREWELL_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class RabbitMQSubscription:
    """One member of a group."""

    def __init__(self, connection: Connection, names: Names, group: str, prefetch: int) -> None:
        self._connection, self._names = connection, names
        self.group, self._prefetch = group, prefetch
        self._wanted: frozenset[int] = frozenset()
        self._lanes: dict[int, Lane] = {}
        self._leaving: dict[int, Lane] = {}
        """Given up, and something that was fetched is still to be settled."""
        self._farewells: set[asyncio.Task[None]] = set()
        self._buffer: deque[tuple[Lane, int, Delivery]] = deque()
        self._fetched: dict[Delivery, Lane] = {}
        self._arrived = asyncio.Event()
        self._changing, self._mending = asyncio.Lock(), asyncio.Event()
        self._epoch, self._closed = 0, False
        self._mender: asyncio.Task[None] | None = None

    @property
    def unsettled(self) -> int:
        """How many envelopes were received and are not settled."""
        return sum(len(lane.unsettled) for lane in (*self._lanes.values(), *self._leaving.values()))

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What has arrived, each lane in its order."""
        until = asyncio.get_running_loop().time() + timeout.total_seconds()
        if self._is_broken():
            self._mend()
        while True:
            room = min(at_most, self._prefetch - len(self._fetched), len(self._buffer))
            if room > 0:
                return [self._taken(*self._buffer.popleft()) for _ in range(room)]
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()
            except TimeoutError:
                return []

    async def take(self, lanes: Collection[int]) -> None:
        """Consume from these; while the connection is lost, as soon as it is there again."""
        self._wanted = frozenset(lanes)
        try:
            await self._change()
        except (TransportUnavailableError, *REFUSALS):
            self._mend()

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Tell the broker; what belongs to a lane that was opened again since then is ignored."""
        by_lane: dict[Lane, dict[int, Settlement]] = {}
        for delivery, settlement in outcomes:
            if (lane := self._fetched.pop(delivery, None)) is not None:
                by_lane.setdefault(lane, {})[lane.fetched.pop(delivery)] = settlement
        self._arrived.set()
        for lane, settlements in by_lane.items():
            await self._tell(lane, settlements)
            if not lane.fetched:
                lane.is_settled.set()

    async def widen(self, topics: Sequence[str]) -> None:
        """The group's queues have them since they were provisioned."""

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing expires but after the broker's `consumer_timeout`, which no client can put off."""

    async def close(self) -> None:
        """End every lane; the broker puts back what is not settled."""
        self._closed, self._wanted = True, frozenset()
        tasks = [*self._farewells, *([self._mender] if self._mender is not None else [])]
        for task in tasks:
            task.cancel()
        await ended(tasks)
        async with self._changing:
            await together(*(self._end(lane) for lane in [*self._lanes.values(), *self._leaving.values()]))

    def _is_broken(self) -> bool:
        return any(number not in self._lanes or self._lanes[number].is_over for number in self._wanted)

    def _taken(self, lane: Lane, tag: int, delivery: Delivery) -> Delivery:
        self._fetched[delivery] = lane
        lane.fetched[delivery] = tag
        return delivery

    async def _change(self) -> None:
        """Make what is consumed what is wanted."""
        async with self._changing:
            over = [lane for number, lane in self._lanes.items() if lane.is_over or number not in self._wanted]
            await together(*(self._give_up(lane) for lane in over))
            new = sorted(self._wanted - self._lanes.keys())
            await together(*(self._end(self._leaving[number]) for number in new if number in self._leaving))
            share = min(self._prefetch, max(_SHARE, self._prefetch // max(1, len(self._wanted))))
            await together(*(self._begin(number, share) for number in new))

    async def _begin(self, number: int, share: int) -> None:
        channel = await self._connection.open_channel()
        self._epoch += 1
        lane = Lane(number, self._epoch, channel)
        self._lanes[number] = lane
        channel.closing.add_done_callback(lambda _: self._gone(lane))
        channel.on_consumer_cancel_callbacks.add(lambda _: self._cancelled(lane))
        try:
            await self._connection.ask(channel.basic_qos(prefetch_count=share))
            queue = self._names.queue(self.group, number)
            await self._connection.ask(channel.basic_consume(queue, partial(self._receive, lane)))
        except BaseException:
            await self._end(lane)
            raise

    async def _receive(self, lane: Lane, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0
        lane.unsettled.add(tag)
        if not lane.is_over:
            delivery = delivery_of(message, self._names.exchange, lane.number, lane.epoch)
            self._buffer.append((lane, tag, delivery))
            self._arrived.set()

    async def _give_up(self, lane: Lane) -> None:
        self._stop_fetching(lane)
        if lane.number in self._wanted or not lane.fetched:
            await self._end(lane)
            return
        del self._lanes[lane.number]
        self._leaving[lane.number] = lane
        lane.is_settled.clear()
        farewell = asyncio.create_task(self._bid_farewell(lane), name=f"amqp.farewell.{self.group}")
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _bid_farewell(self, lane: Lane) -> None:
        await happens(lane.is_settled, _FAREWELL_SECONDS)
        await self._end(lane)

    async def _tell(self, lane: Lane, settlements: Mapping[int, Settlement]) -> None:
        has_come_through = False
        try:
            has_come_through = await lane.tell(settlements)
        finally:
            if not has_come_through or Settlement.GIVE_BACK in settlements.values():
                self._stop_fetching(lane)
        if not has_come_through:
            self._mend()

    def _stop_fetching(self, lane: Lane) -> None:
        lane.is_over = True
        self._buffer = deque(waiting for waiting in self._buffer if waiting[0] is not lane)

    async def _end(self, lane: Lane) -> None:
        """Close its channel: what is not settled goes back."""
        self._forget(lane)
        await self._connection.close_channel(lane.channel)

    def _cancelled(self, lane: Lane) -> None:
        """The broker has ended the consumer: the queue was deleted, or its leader is gone."""
        self._stop_fetching(lane)
        self._mend()

    def _gone(self, lane: Lane) -> None:
        self._forget(lane)
        if not self._closed and lane.number in self._wanted:
            self._mend()

    def _forget(self, lane: Lane) -> None:
        self._stop_fetching(lane)
        for place in (self._lanes, self._leaving):
            if place.get(lane.number) is lane:
                del place[lane.number]
        for delivery in lane.fetched:
            self._fetched.pop(delivery, None)
        lane.fetched.clear()
        self._arrived.set()

    def _mend(self) -> None:
        if not self._closed and (self._mender is None or self._mender.done()):
            self._mender = asyncio.create_task(self._keep_mending(), name=f"amqp.mending.{self.group}")

    async def _keep_mending(self) -> None:
        pause, told = _FIRST_PAUSE_SECONDS, False
        while self._is_broken():
            await self._connection.until_up()
            try:
                await self._change()
            except TransportUnavailableError:
                pass
            except REFUSALS as error:
                if not told:
                    log.error("transport.lane_unavailable", group=self.group, error=said(error))  # noqa: TRY400 - no fault of ours
                told = True
            if self._is_broken():
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
