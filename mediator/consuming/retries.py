"""Retries: parked deliveries get their next attempt when it is due.

They run from the database, not from the broker, so they are the same on every transport, survive a restart and block
nobody. A due delivery takes the lane of its key like any other; its attempt is counted there, just before it runs.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta

from sqlalchemy.engine import RowMapping

from mediator.consuming.consumer import Consumer, ConsumerSettings
from mediator.consuming.failures import failure_facts
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.reading import Reader, reading_subscriber
from mediator.consuming.subscriber import Subscriber
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import Received
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.messaging.transport import Delivery
from mediator.storage.database import Database, is_transient
from mediator.storage.parked import RUNNING, ParkedTable

__all__ = ["Retries"]

_BUSY_PAUSE_SECONDS = 0.05
_SHORTEST_WAIT_SECONDS = 0.001


class Retries:
    """Runs what is due for the handlers of one module."""

    def __init__(
        self,
        module: str,
        consumers: Sequence[Consumer],
        reader: Reader,
        idempotent: IdempotentConsumer,
        database: Database,
        settings: ConsumerSettings,
        paused: set[str],
        one_suspect: asyncio.Lock,
    ) -> None:
        self._module, self._reader, self._idempotent = module, reader, idempotent
        self._consumers, self._settings, self._paused = consumers, settings, paused
        self._parked, self._database = ParkedTable(database), database
        self._subscribers: Mapping[str, tuple[Subscriber, Consumer]] = {
            subscriber.id: (subscriber, consumer) for consumer in consumers for subscriber in consumer.subscribers
        }
        self._reading, self._one_suspect = reading_subscriber(module), one_suspect
        self._running: set[int] = set()
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

    def start(self) -> None:
        """Begin to look for what is due."""
        name = f"retries.{self._module}"
        self._task = asyncio.create_task(keep_running(name, self._run), name=name)

    async def stop(self, within: timedelta) -> None:
        """Start no more retries, and let those under way finish for a while; the rest ends with its lane."""
        self._stopping = True
        self._wakened.set()
        if self._task is not None:
            await ended([self._task])
        try:
            async with asyncio.timeout(within.total_seconds()):
                while self._running:
                    self._wakened.clear()
                    await self._wakened.wait()
        except TimeoutError:
            return

    async def prepare(self) -> None:
        """Take over what is parked under former ids, and let go what waits for an order that is kept no more."""
        for subscriber, _ in self._subscribers.values():
            if not subscriber.keeps_order:
                await self._parked.unblock(subscriber.id)
            for alias in subscriber.aliases:
                await self._parked.rename_subscriber(alias, subscriber.id)

    async def _run(self) -> None:
        while not self._stopping:
            self._wakened.clear()
            room = self._settings.retries_at_once - len(self._running)
            running = frozenset(self._running)
            rows = await self._parked.due(room, subscribers=self._active(), without_positions=running) if room else []
            for row in rows:
                await self._start(row)
            if not rows:
                due_in = await self._parked.next_due_in(subscribers=self._active(), without_positions=running)
                poll = self._settings.retry_poll
                wait = poll if due_in is None or not room else min(due_in, poll)
                await happens(self._wakened, max(wait.total_seconds(), _SHORTEST_WAIT_SECONDS))

    def _active(self) -> list[str]:
        active = (name for name, (one, _) in self._subscribers.items() if one.entry.id not in self._paused)
        return [self._reading, *active]

    async def _start(self, row: RowMapping) -> None:
        delivery = Delivery(
            topic=row["topic"], headers=json.loads(row["headers"]), body=bytes(row["body"]), key=row["partition_key"]
        )
        try:
            received = self._reader.read(delivery)
        except UnreadableMessageError as error:
            facts = {"reason": f"unreadable: {error.reason}"[:40], **failure_facts(error)}
            if await self._parked.die(row["position"], row["attempts"], facts):
                await self._reader.announce(row["subscriber_id"], row["event_id"])
            return
        if row["subscriber_id"] == self._reading:
            await self._deliver_anew(row, received)
            return
        self._running.add(row["position"])
        subscriber, consumer = self._subscribers[row["subscriber_id"]]
        consumer.lanes[subscriber.id].put(received.envelope, lambda: self._retry(subscriber, received, row))

    async def _retry(self, subscriber: Subscriber, received: Received, row: RowMapping) -> None:
        # Whatever was running when the process died is a suspect. They run one at a time, so that the one which kills
        # is counted alone and does not take its neighbours' attempts with it.
        suspicious = row["reason"] == RUNNING
        try:
            async with self._one_suspect if suspicious else nullcontext():
                if self._stopping:
                    return
                await self._idempotent.retry(subscriber, received, row)
        except Exception as error:
            if not is_transient(error):
                raise
            # Nobody's failure: the delivery is due again, after a breath.
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)
        finally:
            self._running.discard(row["position"])
            self._wakened.set()

    async def _deliver_anew(self, row: RowMapping, received: Received) -> None:
        """A message that could not be read once, and now can: it goes to everybody who listens."""
        for subscriber, _ in self._subscribers.values():
            if subscriber.wanted_class(received) is not None:
                await self._idempotent.deliver(subscriber, received, set_aside=True)
        async with self._database.begin() as connection:
            await self._parked.finish(connection, row["position"], row["attempts"])
