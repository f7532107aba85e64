"""The relay: carries the outbox to the transport, each slot by one relay at a time (storage/slots.py says whose).

    per owned slot, in short transactions:
      fetch    due rows in order, but those in flight and those whose key is in flight or waits for a retry
      publish  the batch; outcomes arrive as they become known; several batches may be in flight, bounded
      delete   exactly the confirmed rows, in groups
      refuse   count an attempt and wait; transport down: pause and count nothing

There is no cursor: what is still in the outbox is not yet sent. So a transaction that commits late is not skipped, and
a relay that was paused and lost its slots can do no harm when it wakes: it deletes only what it knows to be confirmed.

At the start the batches are small, so that a row which kills the process ends as dead, alone (ramp.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.application import RetryPolicy
from mediator.clock import Runtime
from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.messaging.transport import Publisher
from mediator.observability import Counters
from mediator.publishing.ramp import Ramp
from mediator.storage.columns import storable
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.outbox import SLOTS, Key, OutboxTable, key_of
from mediator.storage.scheduled import Schedule
from mediator.storage.slots import slot_locks

__all__ = ["Relay", "RelaySettings", "Undertaker"]

log = structlog.get_logger(__name__)
_LONGEST_PAUSE_SECONDS = 30.0
_LOCK_LOOK_SECONDS = 0.25
_WATERMARK_SECONDS = 1.0


class RelaySettings(BaseModel):
    """How the relay works."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    batch: int = Field(default=500, ge=1, le=10_000, description="rows handed to the transport at once")
    in_flight: int = Field(default=1_000, ge=1, le=20_000, description="rows handed over and not yet confirmed")
    poll: timedelta = Field(
        default=timedelta(seconds=1), gt=timedelta(0), le=timedelta(minutes=1), description="between looks when idle"
    )
    fastest_poll: timedelta = Field(
        default=timedelta(milliseconds=50),
        gt=timedelta(0),
        le=timedelta(minutes=1),
        description="between looks as long as they find what no wake-up told of",
    )
    retry: RetryPolicy = RetryPolicy.exponential()
    ramp_patience: timedelta = Field(default=timedelta(seconds=2), ge=timedelta(0), le=timedelta(minutes=1))


class Undertaker(Protocol):
    """Where outbox rows go that cannot be sent."""

    async def bury_unsent(
        self, connection: AsyncConnection, row: RowMapping, error: BaseException, attempts: int
    ) -> UUID:
        """Store a row as a dead letter of the sending side, in the transaction that removes it; gives its id there."""
        ...

    async def announce_unsent(self, event_id: UUID) -> None:
        """Tell the application, after the commit."""
        ...


class Relay:
    """Relays the outbox of one database."""

    def __init__(
        self,
        database: Database,
        transport: Publisher,
        settings: RelaySettings,
        runtime: Runtime,
        counters: Counters,
        undertaker: Undertaker,
        is_paused: Callable[[], bool],
        *,
        keep_history: bool,
    ) -> None:
        self._database, self._outbox, self._locks = database, OutboxTable(database), slot_locks(database)
        self._schedule, self._may_be_due = Schedule(database), False
        self._transport, self._settings, self._runtime = transport, settings, runtime
        self._counters, self._undertaker, self._keep_history = counters, undertaker, keep_history
        self._is_paused = is_paused
        self._owned: frozenset[int] = frozenset()
        self._dirty: set[int] = set()
        self._wakened = asyncio.Event()
        self._in_flight: dict[Key, RowMapping] = {}
        self._confirmed: deque[Key] = deque()
        self._confirmations = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()
        self._ramp, self._turn = Ramp(self._outbox, settings.batch), 0
        self._pause = self._paused_until = 0.0
        self._poll_seconds = settings.poll.total_seconds()
        self._next_poll = self._next_lock_look = self._next_watermark = 0.0
        self._stopped, self._closing = asyncio.Event(), False
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self, slots: Collection[int]) -> None:
        """Something was committed to these slots; what was scheduled may be due already."""
        self._dirty.update(slot for slot in slots if slot >= 0)
        self._may_be_due |= any(slot < 0 for slot in slots)
        self._wakened.set()

    @property
    def owned_slots(self) -> frozenset[int]:
        """The slots that this relay has now; all others need to be told of by other means than `wake`."""
        return self._owned

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._in_flight

    def start(self) -> None:
        """Begin to relay in the background."""
        self._tasks = [
            asyncio.create_task(keep_running(name, loop, is_outage=is_transient), name=name)
            for name, loop in (("relay", self._run), ("relay.complete", self._complete))
        ]

    async def stop(self) -> None:
        """Fetch no more, and give idle slots up; what is in flight is left to the transport's closing."""
        self._stopped.set()
        self._wakened.set()
        await ended(self._tasks[:1])
        await self._locks.leave({slot for slot, _ in self._in_flight})

    async def close(self) -> None:
        """End: remove what was confirmed, take back attempts that the shutdown interrupted, give the slots up."""
        for task in self._publishing:
            task.cancel()
        await ended(self._publishing)
        self._closing = True
        self._confirmations.set()
        await ended(self._tasks)
        try:
            await self._ramp.take_back()
        finally:
            await self._locks.release()
            self._owned = frozenset()

    async def _run(self) -> None:
        while not self._stopped.is_set():
            self._wakened.clear()
            await self._look_at_locks()
            has_work = bool(self._owned) and not self._is_paused()
            if has_work and await self._round():
                continue
            until = min(self._next_poll, self._next_lock_look) if has_work else self._next_lock_look
            await happens(self._wakened, max(until - self._runtime.monotonic(), 0.0))

    async def _look_at_locks(self) -> None:
        if self._runtime.monotonic() < self._next_lock_look:
            return
        before = self._owned
        try:
            self._owned = await self._locks.acquire({slot for slot, _ in self._in_flight})
        except BaseException:
            self._owned = frozenset()
            raise
        self._outbox.disown(before - self._owned)
        if gained := self._owned - before:
            # Nobody has told of what is in there; and its former relay may have been killed by a row of it.
            self._dirty.update(gained)
            self._ramp.begin()
        self._next_lock_look = self._runtime.monotonic() + _LOCK_LOOK_SECONDS

    async def _poll(self) -> None:
        """The net below the wake-ups, however many of them there are."""
        self._dirty.update(await self._outbox.filled_slots())
        await self._release()

    async def _release(self) -> None:
        # Forgotten before the look, so that whatever is told meanwhile leads to another one.
        self._may_be_due = False
        self._dirty.update(await self._schedule.release(self._owned, self._settings.batch))

    def _plan_poll(self, *, caught: bool) -> None:
        idle = self._settings.poll.total_seconds()
        fastest = min(self._settings.fastest_poll.total_seconds(), idle)
        self._poll_seconds = fastest if caught else min(self._poll_seconds * 2, idle)
        self._next_poll = self._runtime.monotonic() + self._poll_seconds

    async def _round(self) -> bool:
        """One look at every slot that may have something; False when there was nothing to do."""
        if (left := self._paused_until - self._runtime.monotonic()) > 0:
            # Commits do not cut this short: every one of them would try the broker that is down.
            await happens(self._stopped, min(left, _LOCK_LOOK_SECONDS))
            return True
        await self._ramp.pay()
        if polled := self._runtime.monotonic() >= self._next_poll:
            await self._poll()
        elif self._may_be_due:
            await self._release()
        if self._runtime.monotonic() >= self._next_watermark:
            await self._outbox.advance_watermarks()
            self._next_watermark = self._runtime.monotonic() + _WATERMARK_SECONDS
        self._runtime.reached("relay.after_lock")
        self._dirty &= self._owned
        found = False
        # Slots take turns: one that never runs dry must not starve the others when the room is scarce.
        for slot in sorted(self._dirty, key=lambda slot: (slot - self._turn) % SLOTS):
            room = self._room()
            if room <= 0 or self._stopped.is_set() or self._runtime.monotonic() >= self._next_lock_look:
                break
            found = await self._carry(slot, room) or found
        if polled:
            self._plan_poll(caught=found)
        if not found and not self._dirty and not self._in_flight:
            self._ramp.end()
        return found

    def _room(self) -> int:
        """How many rows may be handed over now; while the transport is down one row at a time finds out about it."""
        if self._pause:
            return 0 if self._in_flight else 1
        return min(self._ramp.size, self._settings.in_flight - len(self._in_flight))

    async def _carry(self, slot: int, room: int) -> bool:
        """Fetch what is due in a slot and hand it over; False when there was nothing."""
        # Forgotten before the look, so that whatever happens meanwhile marks the slot again.
        self._dirty.discard(slot)
        rows = await self._outbox.fetch(slot, room, without=list(self._in_flight), without_keys=self._keys_in_flight())
        self._runtime.reached("relay.after_fetch")
        if len(rows) == room:
            self._dirty.add(slot)
        if self._paused_until > self._runtime.monotonic():
            # A publication failed while this one was looking.
            self._dirty.add(slot)
            return True
        if rows:
            self._turn = slot + 1
            await self._hand_over(rows)
        return bool(rows)

    def _keys_in_flight(self) -> set[str]:
        return {row["partition_key"] for row in self._in_flight.values() if row["partition_key"] is not None}

    async def _hand_over(self, rows: Sequence[RowMapping]) -> None:
        if is_ramping := not self._ramp.is_over:
            harmless = await self._without_killers(rows)
            rows = self._ramp.one_suspect(harmless)
            if not rows:
                return
            if len(rows) < len(harmless):
                self._dirty.add(rows[0]["slot"])
            await self._ramp.record(rows)
        self._in_flight.update((key_of(row), row) for row in rows)
        task = asyncio.create_task(self._publish(rows), name="relay.publish")
        self._publishing.add(task)
        task.add_done_callback(self._published)
        if is_ramping:
            await asyncio.wait([task], timeout=self._settings.ramp_patience.total_seconds())
            self._ramp.grow()

    async def _without_killers(self, rows: Sequence[RowMapping]) -> list[RowMapping]:
        healthy = []
        for row in rows:
            if row["attempts"] < self._settings.retry.attempts:
                healthy.append(row)
            else:
                why = f"handed over {row['attempts']} times without an outcome: the process died each time"
                await self._die(row, PublishRefusedError(self._transport.name, row["topic"], why), row["attempts"])
        return healthy

    async def _publish(self, rows: Sequence[RowMapping]) -> None:
        open_rows = {key_of(row): row for row in rows}
        failed_keys: set[str] = set()
        unavailable: TransportUnavailableError | None = None
        try:
            envelopes = [found for row in rows if (found := await self._envelope(row)) is not None]
            # By identity: the same event may have been published twice, as two rows.
            row_of = {id(envelope): row for row, envelope in envelopes}
            async for envelope, error in self._transport.publish([envelope for _, envelope in envelopes]):
                row = row_of[id(envelope)]
                open_rows.pop(key_of(row), None)
                if error is None:
                    self._confirm(row)
                    continue
                if isinstance(error, TransportUnavailableError):
                    unavailable = error
                else:
                    self._pause = self._paused_until = 0.0
                await self._refuse(row, error, failed_keys)
        finally:
            if unavailable is not None:
                self._back_off("relay.transport_unavailable", unavailable)
            try:
                await self._ramp.take_back(open_rows)
            finally:
                for key in open_rows:
                    self._in_flight.pop(key, None)
                    self._dirty.add(key[0])
                self._wakened.set()

    async def _envelope(self, row: RowMapping) -> tuple[RowMapping, Envelope] | None:
        try:
            return row, Envelope.from_row(row)
        except ValueError as error:
            # Somebody wrote to the table: the row dies alone, not the batch with it.
            refused = PublishRefusedError(self._transport.name, row["topic"], f"unreadable row: {error}")
            await self._die(row, refused, row["attempts"])
            return None

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._back_off("relay.publish_failed", error)

    def _back_off(self, what_happened: str, error: BaseException) -> None:
        """One failed publication is one step, however many envelopes it had."""
        self._pause = min(max(self._pause * 2, 0.1), _LONGEST_PAUSE_SECONDS)
        self._paused_until = self._runtime.monotonic() + self._pause
        log.warning(what_happened, transport=self._transport.name, pause_seconds=self._pause, error=str(error))

    def _confirm(self, row: RowMapping) -> None:
        self._runtime.reached("relay.after_publish")
        self._pause = self._paused_until = 0.0
        self._confirmed.append(key_of(row))
        self._confirmations.set()
        self._counters.add("relayed", row["module"])

    async def _complete(self) -> None:
        """Delete confirmed rows; while one group is deleted, the next one gathers."""
        while self._confirmed or not self._closing:
            if not self._confirmed:
                self._confirmations.clear()
                await self._confirmations.wait()
                continue
            group = [self._confirmed.popleft() for _ in range(min(len(self._confirmed), self._settings.batch))]
            self._runtime.reached("relay.before_delete")
            try:
                await self._outbox.complete(group, keep_history=self._keep_history)
            except BaseException:
                self._confirmed.extendleft(reversed(group))
                raise
            self._runtime.reached("relay.after_delete")
            for key in group:
                del self._in_flight[key]
                self._ramp.forget(key)
                self._dirty.add(key[0])
            self._wakened.set()

    async def _refuse(self, row: RowMapping, error: Exception, failed_keys: set[str]) -> None:
        key, partition_key = key_of(row), row["partition_key"]
        behind = partition_key is not None and partition_key in failed_keys
        if partition_key is not None:
            failed_keys.add(partition_key)
        try:
            if isinstance(error, TransportUnavailableError) or behind:
                await self._ramp.take_back([key])
            else:
                await self._count(row, error)
        finally:
            self._ramp.forget(key)
            self._in_flight.pop(key, None)
            self._dirty.add(key[0])

    async def _count(self, row: RowMapping, error: Exception) -> None:
        """Count an attempt that the envelope is to blame for: the row waits for the next one, or dies."""
        attempts = row["attempts"] + 1
        if self._settings.retry.gives_up(attempts, error):
            await self._die(row, error, attempts)
        else:
            delay = self._settings.retry.delay_after(attempts, self._runtime.random, error)
            await self._outbox.refuse(key_of(row), attempts, delay, storable(str(error)[:2000]))
            log.warning("relay.refused", event_id=str(row["event_id"]), topic=row["topic"], attempt=attempts)
        self._counters.add("refused", row["module"])

    async def _die(self, row: RowMapping, error: BaseException, attempts: int) -> None:
        self._runtime.reached("dead.before_store")
        async with self._database.begin() as connection:
            if not await self._outbox.remove(connection, key_of(row)):
                # Another relay, which took the slot over, was faster.
                return
            event_id = await self._undertaker.bury_unsent(connection, row, error, attempts)
        self._ramp.forget(key_of(row))
        self._dirty.add(row["slot"])
        log.error("relay.gave_up", event_id=str(row["event_id"]), topic=row["topic"], error=str(error))
        await self._undertaker.announce_unsent(event_id)
