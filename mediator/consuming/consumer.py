"""The consumer: fetches what arrives for a module, and hands each event to every handler that listens.

    fetch → read → for each handler: its lane → idempotent consumer → settle when all have committed, skipped or parked

One module is one group, which gets one copy of each envelope. Inside, every handler is a subscriber of its own, with
inbox rows, retries and dead letters of its own: one that fails neither blocks nor repeats another. No more deliveries
than `prefetch` are under way at once; whatever else there is waits in the outbox.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from pydantic import BaseModel, ConfigDict, Field

from mediator.clock import Runtime
from mediator.consuming.group_commit import GroupCommit
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.lanes import Lanes
from mediator.consuming.reading import Reader
from mediator.consuming.sharing import LaneShare
from mediator.consuming.subscriber import Subscriber, listeners
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import Received
from mediator.messaging.supervision import ended, every, keep_running, together
from mediator.messaging.transport import Delivery, Settlement, Subscription, Transport
from mediator.storage.slots import SlotLocks

__all__ = ["Consumer", "ConsumerSettings"]

log = structlog.get_logger(__name__)
_FETCH_TIMEOUT = timedelta(seconds=1)
_EXTEND_SECONDS = 10.0
_STORE_PAUSE_SECONDS = 1.0


class ConsumerSettings(BaseModel):
    """How a module consumes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefetch: int = Field(default=200, ge=1, le=10_000, description="deliveries under way at once")
    set_aside_after: timedelta = Field(
        default=timedelta(seconds=2),
        gt=timedelta(0),
        le=timedelta(minutes=1),
        description="how long all runs of a handler may hang before what waits for it is parked",
    )
    retry_poll: timedelta = Field(default=timedelta(seconds=1), gt=timedelta(0), le=timedelta(minutes=1))
    retries_at_once: int = Field(
        default=50, ge=1, le=1_000, description="retries under way in a module; one of each handler in any case"
    )


@dataclass(eq=False, slots=True)
class _Open:
    """A delivery that is not settled yet."""

    delivery: Delivery
    subscription: Subscription
    handlers_left: int = 0
    settlement: Settlement = Settlement.ACK


@dataclass(eq=False, slots=True)
class _Part:
    """What one of the handlers has to do with a delivery."""

    received: Received
    whole: _Open


class Consumer:
    """Consumes for one group."""

    def __init__(
        self,
        group: str,
        reader: Reader,
        idempotent: IdempotentConsumer,
        group_commit: GroupCommit,
        transports: Sequence[Transport],
        settings: ConsumerSettings,
        runtime: Runtime,
        paused: set[str],
        locks: SlotLocks | None,
    ) -> None:
        self.group = group
        self.lanes: dict[str, Lanes[_Part]] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._receives: frozenset[str] = frozenset()
        self._reader, self._idempotent, self._transports = reader, idempotent, transports
        self._group_commit = group_commit
        self._settings, self._runtime, self._paused = settings, runtime, paused
        self._open: set[_Open] = set()
        self._share = None if locks is None else LaneShare(locks, self._busy_lanes)
        self._settled = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriptions: list[Subscription] = []
        """One for each transport; that of the broker, which may have lanes, is the first."""

    @property
    def is_idle(self) -> bool:
        """Whether no delivery is under way."""
        return not self._open

    @property
    def topics(self) -> frozenset[str]:
        """What its handlers listen to."""
        return frozenset().union(*(subscriber.topics for subscriber in self._subscribers.values()))

    def add(self, subscriber: Subscriber) -> None:
        """Let a handler take part, or take the place of what was known of it."""
        self._subscribers[subscriber.id] = subscriber
        if subscriber.id not in self.lanes:
            self.lanes[subscriber.id] = self._lanes_of(subscriber)

    async def listen(self) -> None:
        """Receive what its handlers listen to: join the group and consume in the background, or widen what it gets."""
        for lanes in self.lanes.values():
            lanes.start()
        topics = self.topics
        if not self._subscriptions:
            for transport in self._transports:
                joined = await transport.subscribe(self.group, sorted(topics), self._settings.prefetch)
                self._subscriptions.append(joined)
            self._start()
        elif more := topics - self._receives:
            for subscription in self._subscriptions:
                await subscription.widen(sorted(more))
        self._receives = topics

    async def drain(self, within: timedelta) -> None:
        """Fetch no more, and let what is under way finish for a while."""
        self._stopping = True
        try:
            async with asyncio.timeout(within.total_seconds()):
                if self._share is not None and self._subscriptions:
                    await self._share.stop(self._subscriptions[0])
                while self._open:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            log.warning("consumer.gave_back", group=self.group, deliveries=len(self._open))

    async def end(self) -> None:
        """Cancel what is still under way, and give it back."""
        self._stopping = True
        await together(*(lanes.stop() for lanes in self.lanes.values()))
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)
        try:
            await together(*(subscription.close() for subscription in self._subscriptions))
        finally:
            if self._share is not None:
                await self._share.end()

    def _lanes_of(self, subscriber: Subscriber) -> Lanes[_Part]:
        work = partial(self._work, subscriber)
        entry = subscriber.entry
        return Lanes(subscriber.id, work, self._runtime.monotonic, workers=entry.concurrency, together=entry.max_batch)

    def _start(self) -> None:
        relieve = every(self._settings.set_aside_after.total_seconds() / 2, self._relieve)
        loops = [("relief", relieve), ("extension", every(_EXTEND_SECONDS, self._extend))]
        loops.extend(("consumer", partial(self._run, subscription)) for subscription in self._subscriptions)
        if self._share is not None:
            loops.append(("lanes", partial(self._share.keep, self._subscriptions[0])))
        self._tasks = [
            asyncio.create_task(keep_running(name, loop), name=name)
            for name, loop in ((f"{kind}.{self.group}", loop) for kind, loop in loops)
        ]

    async def _run(self, subscription: Subscription) -> None:
        while not self._stopping:
            room = self._settings.prefetch - len(self._open)
            if room <= 0:
                self._settled.clear()
                await self._settled.wait()
                continue
            fetched = [_Open(delivery, subscription) for delivery in await subscription.fetch(room, _FETCH_TIMEOUT)]
            self._open.update(fetched)
            for open_delivery in fetched:
                self._runtime.reached("consumer.received")
                try:
                    await self._receive(open_delivery)
                except Exception:
                    # It was given back; the others that came with it go on.
                    log.exception("consumer.receive_failed", group=self.group)
                    await asyncio.sleep(_STORE_PAUSE_SECONDS)

    async def _relieve(self) -> None:
        await together(*(lanes.relieve(self._settings.set_aside_after) for lanes in self.lanes.values()))

    async def _extend(self) -> None:
        for subscription in self._subscriptions:
            if slow := [one.delivery for one in self._open if one.subscription is subscription]:
                await subscription.extend(slow)

    def _busy_lanes(self) -> set[int]:
        return {one.delivery.lane for one in self._open if one.subscription is self._subscriptions[0]}

    async def _receive(self, open_delivery: _Open) -> None:
        try:
            received = self._reader.read(open_delivery.delivery)
        except UnreadableMessageError as error:
            await self._bury(open_delivery, error)
        else:
            self._runtime.reached("consumer.parsed")
            await self._hand_out(received, open_delivery)
            # Behind it: whatever counting meets, the event is handled.
            self._reader.count(received)

    async def _hand_out(self, received: Received, open_delivery: _Open) -> None:
        targets = listeners(self._subscribers.values(), received)
        open_delivery.handlers_left = len(targets)
        if not targets:
            await self._settle(open_delivery)
        for subscriber in targets:
            self.lanes[subscriber.id].put(received.envelope, _Part(received, open_delivery))

    async def _work(self, subscriber: Subscriber, parts: Sequence[_Part], *, set_aside: bool) -> None:
        left = deque(parts)
        try:
            if len(parts) > 1 and not any(self._must_wait(subscriber, part) for part in parts) and not set_aside:
                left = deque(await self._work_together(subscriber, parts))
            while left:
                await self._deliver(subscriber, left[0], set_aside=set_aside)
                await self._done(left.popleft())
        except BaseException:
            # Cancelled by the shutdown: somebody else may try.
            for part in left:
                part.whole.settlement = Settlement.GIVE_BACK
            raise
        finally:
            for part in left:
                await self._done(part)

    async def _work_together(self, subscriber: Subscriber, parts: Sequence[_Part]) -> Sequence[_Part]:
        """Handle several in one transaction; gives those that are still to be done, one by one."""
        # Of several copies of an event the first one: what the others are is seen when they come alone.
        first = {part.received.envelope.event_id: part for part in reversed(parts)}
        chosen = [part.received for part in parts if first[part.received.envelope.event_id] is part]
        taken = await self._group_commit.deliver(subscriber, chosen, self.lanes[subscriber.id].is_stopping)
        done = {part for event_id, part in first.items() if event_id in taken}
        for part in done:
            await self._done(part)
        return [part for part in parts if part not in done]

    def _must_wait(self, subscriber: Subscriber, part: _Part) -> bool:
        """Whether it is left to the retries: it was redelivered, or its handler rests."""
        rests = subscriber.entry.id in self._paused or subscriber.circuit.is_open
        return rests or part.whole.delivery.attempt > 1

    async def _done(self, part: _Part) -> None:
        part.whole.handlers_left -= 1
        if part.whole.handlers_left == 0:
            await self._settle(part.whole)

    async def _deliver(self, subscriber: Subscriber, part: _Part, *, set_aside: bool) -> None:
        is_stopping = self.lanes[subscriber.id].is_stopping
        set_aside = set_aside or self._must_wait(subscriber, part)
        while True:
            try:
                await self._idempotent.deliver(subscriber, part.received, is_stopping, set_aside=set_aside)
                return
            except Exception:
                if is_stopping():
                    raise
                # The failure itself could not be stored. Tried again here: what comes after it must not overtake it.
                log.exception("consumer.store_failed", subscriber=subscriber.id)
                await asyncio.sleep(_STORE_PAUSE_SECONDS)

    async def _bury(self, open_delivery: _Open, error: UnreadableMessageError) -> None:
        log.error("message.unreadable", group=self.group, reason=error.reason, where=error.where)
        try:
            await self._reader.bury(open_delivery.delivery, error)
        except BaseException:
            open_delivery.settlement = Settlement.GIVE_BACK
            raise
        finally:
            await self._settle(open_delivery)

    async def _settle(self, open_delivery: _Open) -> None:
        self._open.discard(open_delivery)
        await open_delivery.subscription.settle([(open_delivery.delivery, open_delivery.settlement)])
        self._runtime.reached("consumer.after_ack")
        self._settled.set()
