"""Retries: parked deliveries get their next attempt when it is due.

They run from the database, not from the broker, so they are the same on every transport, survive a restart and block
nobody. A due delivery takes the lane of its key like any other; its attempt is counted there, just before it runs.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

from sqlalchemy.engine import RowMapping

from mediator.clock import Runtime
from mediator.consuming.consumer import Consumer, ConsumerSettings
from mediator.consuming.failures import failure_facts
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.reading import Reader, reading_subscriber
from mediator.consuming.subscriber import Subscriber, listeners
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import Received
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.messaging.transport import Delivery
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.parked import RUNNING, ParkedTable

__all__ = ["Retries"]

_BUSY_PAUSE_SECONDS = 0.05
_AHEAD = 2
"""How many retries of a handler are under way for each that it runs at once: the next is there when one ends."""
_SHORTEST_WAIT_SECONDS, _ORPHANS_EVERY_SECONDS = 0.001, 5.0


class Retries:
    """Runs what is due for the handlers of one module."""

    def __init__(
        self,
        module: str,
        reader: Reader,
        idempotent: IdempotentConsumer,
        database: Database,
        settings: ConsumerSettings,
        paused: set[str],
        one_suspect: asyncio.Lock,
        runtime: Runtime,
    ) -> None:
        self._runtime = runtime
        self._module, self._reader, self._idempotent = module, reader, idempotent
        self._settings, self._paused = settings, paused
        self._parked, self._database = ParkedTable(database), database
        self._subscribers: dict[str, tuple[Subscriber, Consumer]] = {}
        self._reading, self._one_suspect = reading_subscriber(module), one_suspect
        self._running: dict[int, str] = {}
        self._next_look_for_orphans = 0.0
        self._wakened = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no retry is under way."""
        return not self._running

    def wake(self) -> None:
        """Something was parked, resumed or replayed."""
        self._wakened.set()

    def add(self, subscriber: Subscriber, consumer: Consumer) -> None:
        """Run what is due for a handler as well, in the lanes of its consumer."""
        self._subscribers[subscriber.id] = subscriber, consumer

    def start(self) -> None:
        """Begin to look for what is due, unless it has."""
        if self._task is None:
            name = f"retries.{self._module}"
            self._task = asyncio.create_task(keep_running(name, self._run, is_outage=is_transient), name=name)

    async def drain(self, within: timedelta) -> None:
        """Start no more retries, and let those under way finish for a while; the rest ends with its lane."""
        await self.end()
        try:
            async with asyncio.timeout(within.total_seconds()):
                while self._running:
                    self._wakened.clear()
                    await self._wakened.wait()
        except TimeoutError:
            return

    async def end(self) -> None:
        """Start no more retries."""
        self._stopping = True
        self._wakened.set()
        if self._task is not None:
            await ended([self._task])

    async def prepare(self) -> None:
        """Take over what is parked under former ids, and let go what waits for nothing that its handler waits for."""
        for subscriber, _ in list(self._subscribers.values()):
            await self._idempotent.until_possible(partial(self._take_over, subscriber), lambda: self._stopping)

    async def _take_over(self, subscriber: Subscriber) -> None:
        for alias in subscriber.aliases:
            await self._parked.rename_subscriber(alias, subscriber.id)
        if not subscriber.keeps_order:
            await self._parked.unblock(subscriber.id)
        elif subscriber.skips_dead:
            # They may have waited for the dead until now.
            while await self._parked.release_orphans([subscriber.id], skips_dead=True):
                pass

    async def _run(self) -> None:
        while not self._stopping:
            self._wakened.clear()
            await self._release_orphans()
            room = max(self._settings.retries_at_once - len(self._running), 1)
            running, free = frozenset(self._running), self._with_room()
            rows = await self._parked.due(room, subscribers=free, without_positions=running)
            for row in rows:
                if row["subscriber_id"] in self._with_room():
                    await self._start(row)
            if not rows:
                due_in = await self._parked.next_due_in(subscribers=free, without_positions=running)
                poll = self._settings.retry_poll
                wait = poll if due_in is None else min(due_in, poll)
                await happens(self._wakened, max(wait.total_seconds(), _SHORTEST_WAIT_SECONDS))

    async def _release_orphans(self) -> None:
        """Off SQLite a delivery may be parked behind one that is just being handled by another process."""
        now = self._runtime.monotonic()
        if now >= self._next_look_for_orphans:
            self._next_look_for_orphans = now + _ORPHANS_EVERY_SECONDS
            for skips_dead in (False, True):
                if names := [name for name in self._active() if self._skips_dead(name) is skips_dead]:
                    await self._parked.release_orphans(names, skips_dead=skips_dead)

    def _active(self) -> list[str]:
        active = (name for name, (one, _) in self._subscribers.items() if one.entry.id not in self._paused)
        return [self._reading, *active]

    def _skips_dead(self, name: str) -> bool:
        return name in self._subscribers and self._subscribers[name][0].skips_dead

    def _with_room(self) -> list[str]:
        """Those who may start another one: a handler that hangs must not keep the others from their retries."""
        is_full = len(self._running) >= self._settings.retries_at_once
        under_way = Counter(self._running.values())

        def most_of(name: str) -> int:
            circuit = self._subscribers[name][0].circuit if name in self._subscribers else None
            if circuit is not None and circuit.is_open:
                return int(circuit.may_try)
            return 1 if is_full or name == self._reading else _AHEAD * self._subscribers[name][0].entry.concurrency

        return [name for name in self._active() if under_way[name] < most_of(name)]

    async def _start(self, row: RowMapping) -> None:
        delivery = Delivery(
            topic=row["topic"], headers=json.loads(row["headers"]), body=bytes(row["body"]), key=row["partition_key"]
        )
        try:
            received = self._reader.read(delivery)
        except UnreadableMessageError as error:
            facts = {"reason": f"unreadable: {error.reason}"[:40], **failure_facts(error)}
            skips_dead = self._skips_dead(row["subscriber_id"])
            if await self._parked.die(row["position"], row["attempts"], facts, skips_dead=skips_dead):
                await self._reader.announce(row["subscriber_id"], row["event_id"])
            return
        if row["subscriber_id"] == self._reading:
            await self._deliver_anew(row, received)
            return
        self._running[row["position"]] = row["subscriber_id"]
        subscriber, consumer = self._subscribers[row["subscriber_id"]]
        lanes = consumer.lanes[subscriber.id]
        tries = subscriber.circuit.is_open
        job = partial(self._retry, subscriber, received, row, lanes.is_stopping, tries=tries)
        lanes.put_alone(received.envelope, job)

    async def _retry(
        self,
        subscriber: Subscriber,
        received: Received,
        row: RowMapping,
        is_stopping: Callable[[], bool],
        *,
        tries: bool,
    ) -> None:
        # Whatever was running when the process died is a suspect. They run one at a time, so that the one which kills
        # is counted alone and does not take its neighbours' attempts with it.
        suspicious = row["reason"] == RUNNING
        try:
            async with self._one_suspect if suspicious else nullcontext():
                # It may have been opened since: only what was taken to try it goes on.
                if self._stopping or (subscriber.circuit.is_open and not tries):
                    return
                await self._idempotent.retry(subscriber, received, row, is_stopping)
        except Exception as error:
            # The delivery is due again, after a breath.
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)
            if not is_transient(error):
                raise
        finally:
            self._running.pop(row["position"], None)
            self._wakened.set()

    async def _deliver_anew(self, row: RowMapping, received: Received) -> None:
        """A message that could not be read once, and now can: it goes to everybody who listens."""
        for subscriber in listeners([one for one, _ in self._subscribers.values()], received):
            await self._idempotent.deliver(subscriber, received, lambda: self._stopping, set_aside=True)
        async with self._database.begin() as connection:
            await self._parked.finish(connection, row["position"], row["attempts"])
