"""The idempotent consumer: a subscriber's effect happens once, however often the event arrives.

    BEGIN; INSERT inbox(subscriber, event id, hash)        first: the second of two deliveries waits for the first
      known, same hash → duplicate: skip                   known, other hash → quarantine
      ordering "key" and the key has parked deliveries → park behind them
    handler, its domain events, its outbox rows            under its timeout
    COMMIT
    error → ROLLBACK; then inbox row and parked row together, in a transaction of their own: retry or dead

The inbox row says that this subscriber has taken charge of the event, so a duplicate is skipped whether the first one
succeeded, waits or died. Deadlocks and a database that is busy or away are nobody's failure: they cost no attempt.

A blocking handler has no session. It runs before the transaction begins, so that its slow work holds no lock; the claim
follows. Its outside effects are at least once, like all outside effects.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.clock import Runtime
from mediator.consuming.attempts import handle, known_of, requested, turn_to
from mediator.consuming.parking import OUTAGE, Outcome, Parking
from mediator.consuming.subscriber import Subscriber
from mediator.errors import DeliveryError, HandlerTimeoutError
from mediator.messaging.catalog import Received
from mediator.messaging.handling import OpenUnitOfWork
from mediator.observability import Counters
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.inbox import Claim
from mediator.storage.parked import DEAD, RETRY, RUNNING

__all__ = ["IdempotentConsumer"]

log = structlog.get_logger(__name__)
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
T = TypeVar("T")


class _TurnedAwayError(DeliveryError):
    """Rolls the transaction back: there is nothing to do for this subscriber."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.value)


class _KeyBlockedError(DeliveryError):
    """Rolls the transaction back: an earlier delivery of the key is parked."""


class IdempotentConsumer:
    """Runs handlers on events: one attempt, one transaction."""

    def __init__(
        self,
        database: Database,
        parking: Parking,
        open_unit_of_work: OpenUnitOfWork,
        runtime: Runtime,
        counters: Counters,
    ) -> None:
        self._database, self._parking, self._open = database, parking, open_unit_of_work
        self._runtime, self._counters = runtime, counters

    async def deliver(
        self, subscriber: Subscriber, received: Received, is_stopping: Callable[[], bool], *, set_aside: bool = False
    ) -> Outcome:
        """Handle a first delivery; `set_aside` parks it for the retries instead (redelivered, or paused)."""

        async def once() -> Outcome:
            if set_aside:
                return await self._parking.take_charge(subscriber, received, status=RETRY, reason="set aside")
            return await self._first_attempt(subscriber, received, is_stopping)

        return self.counted(subscriber, received, await self.until_possible(once, is_stopping))

    async def until_possible(self, work: Callable[[], Awaitable[T]], gives_up: Callable[[], bool]) -> T:
        """Repeat what the database asks to repeat, until it is back if it is away: that is nobody's failure."""
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                return await work()
            except Exception as error:
                if not is_transient(error) or gives_up():
                    raise
                log.info("delivery.postponed", error=type(error).__name__, pause_seconds=pause)
            await asyncio.sleep(pause * self._runtime.random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def retry(
        self, subscriber: Subscriber, received: Received, row: RowMapping, is_stopping: Callable[[], bool]
    ) -> Outcome:
        """Run the next attempt of a parked delivery, counted before it runs."""
        position, attempt, policy = row["position"], row["attempts"] + 1, subscriber.entry.retry
        # One whose last attempt has an outcome may go on: it failed with an error for which there are more of them.
        if attempt > policy.attempts and row["reason"] == RUNNING:
            error = DeliveryError(f"the process died in attempt {attempt - 1} of {policy.attempts}")
            outcome = await self._parking.failed(subscriber, received, position, attempt - 1, error)
            return self.counted(subscriber, received, outcome)

        may_be_counted = False

        async def count() -> None:
            nonlocal may_be_counted
            may_be_counted = True
            if not await self._parking.count_attempt(subscriber, position, attempt - 1):
                raise _TurnedAwayError(Outcome.DUPLICATE)
            self._runtime.reached("retry.after_claim")

        async def begin(connection: AsyncConnection) -> Sequence[UUID]:
            if not await self._parking.finish(connection, position, attempt):
                raise _TurnedAwayError(Outcome.DUPLICATE)
            return await self._parking.skipped(connection, subscriber, received, before=position)

        try:
            outcome = await self._attempt(subscriber, received, attempt, begin, count)
            subscriber.circuit.answered()
        except _TurnedAwayError as turned:
            outcome = turned.outcome
        except BaseException as error:
            if not may_be_counted:
                raise
            if is_transient(error) or requested(error, is_stopping):
                await self._uncount(position, attempt, is_stopping)
                raise
            outcome = await self._failed(subscriber, received, position, attempt, error)
        return self.counted(subscriber, received, outcome)

    async def _failed(
        self, subscriber: Subscriber, received: Received, position: int, attempt: int, error: BaseException
    ) -> Outcome:
        self.log_failure(subscriber, received, attempt, error)
        if subscriber.circuit.failed(error):
            return await self._parking.postponed(subscriber, position, attempt, error)
        return await self._parking.failed(subscriber, received, position, attempt, error)

    async def _uncount(self, position: int, attempt: int, is_stopping: Callable[[], bool]) -> None:
        """Take a counted attempt back; when stopping, there is a moment for it, but no more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LONGEST_PAUSE_SECONDS
        await self.until_possible(
            lambda: self._parking.uncount_attempt(position, attempt), lambda: is_stopping() and loop.time() > until
        )

    async def _first_attempt(
        self, subscriber: Subscriber, received: Received, is_stopping: Callable[[], bool]
    ) -> Outcome:
        async def begin(connection: AsyncConnection) -> Sequence[UUID]:
            claim = await self._parking.claim(connection, subscriber, received)
            self._runtime.reached("inbox.after_insert")
            if claim is Claim.DUPLICATE:
                raise _TurnedAwayError(Outcome.DUPLICATE)
            if claim is Claim.CONFLICT:
                raise _TurnedAwayError(Outcome.CONFLICT)
            if await self._parking.is_blocked(connection, subscriber, received):
                raise _KeyBlockedError
            return await self._parking.skipped(connection, subscriber, received)

        try:
            outcome = await self._attempt(subscriber, received, 1, begin)
        except _TurnedAwayError as turned:
            if turned.outcome is Outcome.CONFLICT:
                return await self._parking.quarantine(subscriber, received)
            return turned.outcome
        except _KeyBlockedError:
            return await self._parking.take_charge(subscriber, received, status=RETRY, reason="behind its key")
        except BaseException as error:
            if is_transient(error) or requested(error, is_stopping):
                raise
            self.log_failure(subscriber, received, 1, error)
            policy, waits = subscriber.entry.retry, subscriber.circuit.failed(error)
            return await self._parking.take_charge(
                subscriber,
                received,
                status=DEAD if policy.gives_up(1, error) and not waits else RETRY,
                reason=OUTAGE if waits else "failed",
                attempts=0 if waits else 1,
                delay=subscriber.circuit.pause if waits else policy.delay_after(1, self._runtime.random, error),
                error=error,
            )
        subscriber.circuit.answered()
        return outcome

    async def _attempt(
        self,
        subscriber: Subscriber,
        received: Received,
        attempt: int,
        begin: Callable[[AsyncConnection], Awaitable[Sequence[UUID]]],
        count: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """One attempt in one transaction; `begin` opens it and gives what is skipped, or raises when nothing is to do.

        `count` is for those that are parked, and comes before it in a transaction of its own.
        """
        entry = subscriber.entry
        async with self._open(*known_of(subscriber, received, attempt)) as uow:
            if count is not None:
                # Waiting for a connection may take longer than the next attempt's delay: what is counted can begin.
                if not (entry.blocking or self._database.has_one_writer):
                    await uow.session.connection()
                await count()
            if entry.blocking:
                skipped = await self._begin_apart(begin)
            else:
                skipped = await begin(await uow.session.connection())
            if skipped:
                turn_to(uow, subscriber, received, attempt, skipped)
            deadline = asyncio.timeout(entry.timeout.total_seconds())
            try:
                async with deadline:
                    await handle(subscriber, received, uow, self._runtime)
            except TimeoutError:
                if deadline.expired():
                    raise HandlerTimeoutError(subscriber.id, entry.timeout) from None
                raise
            # A handler that hid the cancellation, or never let the loop look at the clock, has timed out as well.
            if deadline.expired() or asyncio.get_running_loop().time() >= (deadline.when() or 0):
                raise HandlerTimeoutError(subscriber.id, entry.timeout)
            if entry.blocking:
                await begin(await uow.session.connection())
            if count is not None:
                await self._parking.release_next(await uow.session.connection(), subscriber, received.envelope.key)
            self._runtime.reached("retry.before_commit" if count is not None else "inbox.before_commit")
        self._runtime.reached("inbox.after_commit")
        return Outcome.HANDLED

    async def _begin_apart(self, begin: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Ask without holding a lock whether there is anything to do; the answer is asked for again later."""
        async with self._database.writer.connect() as connection:
            found = await begin(connection)
            await connection.rollback()
            return found

    def counted(self, subscriber: Subscriber, received: Received, outcome: Outcome) -> Outcome:
        """Count and log what became of an event."""
        self._counters.add(outcome.value, subscriber.id)
        log.debug(
            "inbox.settled", outcome=outcome.value, subscriber=subscriber.id, event_id=str(received.envelope.event_id)
        )
        return outcome

    def log_failure(self, subscriber: Subscriber, received: Received, attempt: int, error: BaseException) -> None:
        """Count and log a failed attempt."""
        self._counters.add("failed", subscriber.id)
        log.warning(
            "handler.failed",
            subscriber=subscriber.id,
            event_id=str(received.envelope.event_id),
            attempt=attempt,
            error=type(error).__name__,
        )
