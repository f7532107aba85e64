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
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid5

import structlog
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.application import MessageContext
from mediator.application.converters import publishables
from mediator.clock import Runtime
from mediator.consuming.failures import failure_facts
from mediator.consuming.subscriber import Subscriber
from mediator.errors import DeliveryError, HandlerTimeoutError, IdentityConflictError
from mediator.messaging.catalog import Received
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.handling import HandlingUnitOfWork, OpenUnitOfWork
from mediator.messaging.lineage import Lineage
from mediator.observability import Counters
from mediator.storage.database import Database, is_transient
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.parked import BLOCKED, DEAD, RETRY, ParkedTable

__all__ = ["IdempotentConsumer", "Outcome", "parked_values"]

log = structlog.get_logger(__name__)
_BUSY_PAUSE = timedelta(milliseconds=50)


class Outcome(Enum):
    """What became of an event at one subscriber; the value is the counter's name."""

    HANDLED = "handled"
    DUPLICATE = "duplicate_skipped"
    CONFLICT = "conflict_quarantined"
    PARKED = "parked"
    DEAD = "died"


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
        open_unit_of_work: OpenUnitOfWork,
        runtime: Runtime,
        counters: Counters,
        parked_one: Callable[[], None],
        died: Callable[[str, UUID], Awaitable[None]],
    ) -> None:
        self._database = database
        self._open = open_unit_of_work
        self._runtime = runtime
        self._counters = counters
        self._parked_one = parked_one
        self._died = died
        self._inbox = InboxTable(database.tables)
        self._parked = ParkedTable(database)

    async def deliver(self, subscriber: Subscriber, received: Received, *, set_aside: bool = False) -> Outcome:
        """Handle a first delivery; `set_aside` parks it for the retries instead (redelivered, or paused)."""
        while True:
            try:
                if set_aside:
                    outcome = await self._take_charge(subscriber, received, status=RETRY, reason="set aside")
                else:
                    outcome = await self._first_attempt(subscriber, received)
                return self._counted(subscriber, received, outcome)
            except Exception as error:
                if not is_transient(error):
                    raise
                await asyncio.sleep(_BUSY_PAUSE.total_seconds() * self._runtime.random.uniform(0.5, 2))

    async def retry(self, subscriber: Subscriber, received: Received, row: RowMapping) -> Outcome:
        """Run the next attempt of a parked delivery, counted before it runs."""
        position, counted = row["position"], row["attempts"]
        policy = subscriber.entry.retry
        if counted >= policy.attempts:
            error = DeliveryError(f"the process died in attempt {counted} of {policy.attempts}")
            return self._counted(subscriber, received, await self._give_up(subscriber, received, row, counted, error))
        attempt = counted + 1
        if not await self._parked.claim(position, counted, policy.delay_after(attempt, self._runtime.random)):
            return Outcome.DUPLICATE
        self._runtime.reached("retry.after_claim")

        async def begin(connection: AsyncConnection) -> None:
            if not await self._parked.finish(connection, position, attempt):
                raise _TurnedAwayError(Outcome.DUPLICATE)

        try:
            outcome = await self._attempt(subscriber, received, attempt, begin, parked=True)
        except _TurnedAwayError as turned:
            outcome = turned.outcome
        except BaseException as error:
            if is_transient(error) or _requested(error):
                await self._parked.unclaim(position, attempt)
                raise
            outcome = await self._failed_again(subscriber, received, row, attempt, error)
        return self._counted(subscriber, received, outcome)

    async def _first_attempt(self, subscriber: Subscriber, received: Received) -> Outcome:
        async def begin(connection: AsyncConnection) -> None:
            claim = await self._claim(connection, subscriber, received)
            self._runtime.reached("inbox.after_insert")
            if claim is Claim.DUPLICATE:
                raise _TurnedAwayError(Outcome.DUPLICATE)
            if claim is Claim.CONFLICT:
                raise _TurnedAwayError(Outcome.CONFLICT)
            if await self._is_blocked(connection, subscriber, received):
                raise _KeyBlockedError

        try:
            return await self._attempt(subscriber, received, 1, begin, parked=False)
        except _TurnedAwayError as turned:
            if turned.outcome is Outcome.CONFLICT:
                await self._quarantine(subscriber, received)
            return turned.outcome
        except _KeyBlockedError:
            return await self._take_charge(subscriber, received, status=RETRY, reason="behind its key")
        except BaseException as error:
            if is_transient(error) or _requested(error):
                raise
            dead = subscriber.entry.retry.gives_up(1, error)
            delay = subscriber.entry.retry.delay_after(1, self._runtime.random)
            self._log_failure(subscriber, received, 1, error)
            return await self._take_charge(
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
            if deadline.expired():
                raise HandlerTimeoutError(subscriber.id, entry.timeout)
            if entry.blocking:
                await begin(await uow.session.connection())
                uow.publish(*result)
                await uow.dispatch_events()
            if parked and subscriber.keeps_order and envelope.key is not None:
                await self._parked.release_next(await uow.session.connection(), subscriber.id, envelope.key)
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

    async def _claim(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> Claim:
        return await self._inbox.claim(
            connection, subscriber.id, subscriber.entry.aliases, received.envelope.event_id, received.payload_hash
        )

    async def _is_blocked(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> bool:
        key = received.envelope.key
        return subscriber.keeps_order and key is not None and await self._parked.blocks(connection, subscriber.id, key)

    async def _take_charge(
        self,
        subscriber: Subscriber,
        received: Received,
        *,
        status: str,
        reason: str,
        attempts: int = 0,
        delay: timedelta = timedelta(0),
        error: BaseException | None = None,
    ) -> Outcome:
        """Inbox row and parked row together: from now on the broker does not have to keep the event."""
        self._runtime.reached("dead.before_store")
        async with self._database.begin() as connection:
            claim = await self._claim(connection, subscriber, received)
            if claim is Claim.TAKEN:
                if await self._is_blocked(connection, subscriber, received):
                    status, reason = BLOCKED, "behind its key"
                await self._parked.park(
                    connection,
                    parked_values(subscriber.id, received, status, reason, attempts, error),
                    delay=delay if status == RETRY else None,
                )
        if claim is Claim.CONFLICT:
            await self._quarantine(subscriber, received)
            return Outcome.CONFLICT
        if claim is Claim.DUPLICATE:
            return Outcome.DUPLICATE
        if status == DEAD:
            await self._died(subscriber.id, received.envelope.event_id)
            return Outcome.DEAD
        self._parked_one()
        return Outcome.PARKED

    async def _failed_again(
        self, subscriber: Subscriber, received: Received, row: RowMapping, attempt: int, error: BaseException
    ) -> Outcome:
        self._log_failure(subscriber, received, attempt, error)
        policy = subscriber.entry.retry
        if policy.gives_up(attempt, error):
            return await self._give_up(subscriber, received, row, attempt, error)
        delay = policy.delay_after(attempt, self._runtime.random)
        await self._parked.fail(row["position"], attempt, delay, {"reason": "failed", **failure_facts(error)})
        self._parked_one()
        return Outcome.PARKED

    async def _give_up(
        self, subscriber: Subscriber, received: Received, row: RowMapping, attempts: int, error: BaseException
    ) -> Outcome:
        self._runtime.reached("dead.before_store")
        if await self._parked.die(row["position"], attempts, {"reason": "failed", **failure_facts(error)}):
            await self._died(subscriber.id, received.envelope.event_id)
        return Outcome.DEAD

    async def _quarantine(self, subscriber: Subscriber, received: Received) -> None:
        """Keep another content under a known id as a dead letter, under an id made of both."""
        envelope = received.envelope
        identity = uuid5(envelope.event_id, received.payload_hash.hex())
        error = IdentityConflictError(subscriber.id, envelope.event_id)
        async with self._database.begin() as connection:
            claim = await self._inbox.claim(connection, subscriber.id, (), identity, received.payload_hash)
            if claim is Claim.TAKEN:
                values = parked_values(subscriber.id, received, DEAD, "identity conflict", 0, error)
                await self._parked.park(connection, {**values, "event_id": identity})
        if claim is Claim.TAKEN:
            await self._died(subscriber.id, identity)

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


def parked_values(
    subscriber_id: str, received: Received, status: str, reason: str, attempts: int, error: BaseException | None
) -> dict[str, Any]:
    """The columns of a parked delivery."""
    envelope = received.envelope
    return {
        "subscriber_id": subscriber_id,
        "event_id": envelope.event_id,
        "status": status,
        "reason": reason,
        "attempts": attempts,
        "topic": envelope.topic,
        "partition_key": envelope.key,
        "headers": json.dumps(to_headers(envelope)),
        "body": envelope.body,
        "correlation_id": envelope.correlation_id,
        **(failure_facts(error) if error is not None else {}),
    }


def _requested(error: BaseException) -> bool:
    """Whether somebody cancelled this task; a handler that raises CancelledError by itself has failed."""
    if not isinstance(error, asyncio.CancelledError):
        return not isinstance(error, Exception)
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
