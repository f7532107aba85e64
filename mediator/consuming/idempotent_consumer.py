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
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.application import MessageContext
from mediator.application.converters import publishables
from mediator.clock import Runtime
from mediator.consuming.parking import Outcome, Parking
from mediator.consuming.subscriber import Subscriber
from mediator.errors import DeliveryError, HandlerTimeoutError
from mediator.messaging.catalog import Received
from mediator.messaging.handling import HandlingUnitOfWork, OpenUnitOfWork
from mediator.messaging.lineage import Lineage
from mediator.observability import Counters
from mediator.storage.database import Database, is_transient
from mediator.storage.inbox import Claim
from mediator.storage.parked import DEAD, RETRY

__all__ = ["IdempotentConsumer"]

log = structlog.get_logger(__name__)
_BUSY_PAUSE = timedelta(milliseconds=50)


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

    async def deliver(self, subscriber: Subscriber, received: Received, *, set_aside: bool = False) -> Outcome:
        """Handle a first delivery; `set_aside` parks it for the retries instead (redelivered, or paused)."""
        while True:
            try:
                if set_aside:
                    outcome = await self._parking.take_charge(subscriber, received, status=RETRY, reason="set aside")
                else:
                    outcome = await self._first_attempt(subscriber, received)
                return self._counted(subscriber, received, outcome)
            except Exception as error:
                if not is_transient(error):
                    raise
                await asyncio.sleep(_BUSY_PAUSE.total_seconds() * self._runtime.random.uniform(0.5, 2))

    async def retry(self, subscriber: Subscriber, received: Received, row: RowMapping) -> Outcome:
        """Run the next attempt of a parked delivery, counted before it runs."""
        position, attempt, policy = row["position"], row["attempts"] + 1, subscriber.entry.retry
        if attempt > policy.attempts:
            error = DeliveryError(f"the process died in attempt {attempt - 1} of {policy.attempts}")
            outcome = await self._parking.failed(subscriber, received, position, attempt - 1, error)
            return self._counted(subscriber, received, outcome)

        async def begin(connection: AsyncConnection) -> None:
            if not await self._parking.finish(connection, position, attempt):
                raise _TurnedAwayError(Outcome.DUPLICATE)

        try:
            if not await self._parking.count_attempt(subscriber, position, attempt - 1):
                return Outcome.DUPLICATE
            self._runtime.reached("retry.after_claim")
            outcome = await self._attempt(subscriber, received, attempt, begin, parked=True)
        except _TurnedAwayError as turned:
            outcome = turned.outcome
        except BaseException as error:
            if is_transient(error) or _requested(error):
                await self._parking.uncount_attempt(position, attempt)
                raise
            self._log_failure(subscriber, received, attempt, error)
            outcome = await self._parking.failed(subscriber, received, position, attempt, error)
        return self._counted(subscriber, received, outcome)

    async def _first_attempt(self, subscriber: Subscriber, received: Received) -> Outcome:
        async def begin(connection: AsyncConnection) -> None:
            claim = await self._parking.claim(connection, subscriber, received)
            self._runtime.reached("inbox.after_insert")
            if claim is Claim.DUPLICATE:
                raise _TurnedAwayError(Outcome.DUPLICATE)
            if claim is Claim.CONFLICT:
                raise _TurnedAwayError(Outcome.CONFLICT)
            if await self._parking.is_blocked(connection, subscriber, received):
                raise _KeyBlockedError

        try:
            return await self._attempt(subscriber, received, 1, begin, parked=False)
        except _TurnedAwayError as turned:
            if turned.outcome is Outcome.CONFLICT:
                return await self._parking.quarantine(subscriber, received)
            return turned.outcome
        except _KeyBlockedError:
            return await self._parking.take_charge(subscriber, received, status=RETRY, reason="behind its key")
        except BaseException as error:
            if is_transient(error) or _requested(error):
                raise
            dead = subscriber.entry.retry.gives_up(1, error)
            delay = subscriber.entry.retry.delay_after(1, self._runtime.random)
            self._log_failure(subscriber, received, 1, error)
            return await self._parking.take_charge(
                subscriber,
                received,
                status=DEAD if dead else RETRY,
                reason="failed",
                attempts=1,
                delay=delay,
                error=error,
            )

    async def _attempt(
        self,
        subscriber: Subscriber,
        received: Received,
        attempt: int,
        begin: Callable[[AsyncConnection], Awaitable[None]],
        *,
        parked: bool,
    ) -> Outcome:
        """One attempt in one transaction; `begin` opens it and raises when there is nothing to do."""
        envelope, entry = received.envelope, subscriber.entry
        context = MessageContext(
            message_id=envelope.event_id,
            message_type=envelope.type,
            correlation_id=envelope.correlation_id or str(envelope.event_id),
            causation_id=envelope.causation_id,
            module=entry.module,
            subscriber_id=subscriber.id,
            topic=envelope.topic,
            partition_key=envelope.key,
            attempt=attempt,
            traceparent=envelope.traceparent,
            headers=envelope.headers,
        )
        lineage = Lineage(
            context.correlation_id, envelope.event_id, subscriber.id, envelope.causation_id, envelope.traceparent
        )
        async with self._open(context, lineage) as uow:
            if entry.blocking:
                await self._begin_apart(begin)
            else:
                await begin(await uow.session.connection())
            deadline = asyncio.timeout(entry.timeout.total_seconds())
            try:
                async with deadline:
                    result = await self._handle(subscriber, received, uow)
            except TimeoutError:
                if deadline.expired():
                    raise HandlerTimeoutError(subscriber.id, entry.timeout) from None
                raise
            # A handler that hid the cancellation, or never let the loop look at the clock, has timed out as well.
            if deadline.expired() or asyncio.get_running_loop().time() >= (deadline.when() or 0):
                raise HandlerTimeoutError(subscriber.id, entry.timeout)
            if entry.blocking:
                await begin(await uow.session.connection())
                uow.publish(*result)
                await uow.dispatch_events()
            if parked:
                await self._parking.release_next(await uow.session.connection(), subscriber, envelope.key)
            self._runtime.reached("retry.before_commit" if parked else "inbox.before_commit")
        self._runtime.reached("inbox.after_commit")
        return Outcome.HANDLED

    async def _handle(self, subscriber: Subscriber, received: Received, uow: HandlingUnitOfWork) -> list[Any]:
        wanted = subscriber.wanted_class(received)
        if wanted is None:
            raise DeliveryError(f"{subscriber.id} does not listen to {received.envelope.type} any more")
        result = await subscriber.invoke(subscriber.build(uow), received.as_class(wanted), uow)
        self._runtime.reached("handler.midway")
        events = publishables(result, subscriber.id)
        if not subscriber.entry.blocking:
            uow.publish(*events)
            await uow.dispatch_events()
        return events

    async def _begin_apart(self, begin: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        """Ask without holding a lock whether there is anything to do; the answer is asked for again later."""
        async with self._database.writer.connect() as connection:
            await begin(connection)
            await connection.rollback()

    def _counted(self, subscriber: Subscriber, received: Received, outcome: Outcome) -> Outcome:
        self._counters.add(outcome.value, subscriber.id)
        log.debug(
            "inbox.settled", outcome=outcome.value, subscriber=subscriber.id, event_id=str(received.envelope.event_id)
        )
        return outcome

    def _log_failure(self, subscriber: Subscriber, received: Received, attempt: int, error: BaseException) -> None:
        self._counters.add("failed", subscriber.id)
        log.warning(
            "handler.failed",
            subscriber=subscriber.id,
            event_id=str(received.envelope.event_id),
            attempt=attempt,
            error=type(error).__name__,
        )


def _requested(error: BaseException) -> bool:
    """Whether somebody ends this task or process; a handler that raises CancelledError by itself has failed."""
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, (KeyboardInterrupt, SystemExit))
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
