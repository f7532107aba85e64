"""Group commit: waiting events of one handler share a transaction, for handlers with `max_batch` above 1.

    BEGIN; claim all of them in one statement           one is being handled elsewhere, or quarantined → one by one
      known → skip                                      ordering "key" and something of the key waits → park behind
      each of the others: its handler, one after the other, in this session; or the handler once, with the list
    COMMIT
    a handler raised → ROLLBACK, and the same without that event, which is parked in the transaction of the others
    nobody knows whose fault it was, or several culprits → one by one

Only first deliveries come here, those that wait at one moment: nobody waits for a batch to fill.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from mediator.clock import Runtime
from mediator.consuming.attempts import handle, inside_middleware, known_of, publish_answers, requested, turn_to
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.parking import Outcome, Parking
from mediator.consuming.subscriber import Subscriber
from mediator.errors import ClaimBusyError, DeliveryError, HandlerTimeoutError
from mediator.messaging.catalog import Received
from mediator.messaging.handling import HandlingUnitOfWork, OpenUnitOfWork
from mediator.storage.engines import is_transient
from mediator.storage.inbox import Claim
from mediator.storage.parked import MOST_SKIPPED

__all__ = ["GroupCommit"]

log = structlog.get_logger(__name__)
_MOST_CULPRITS = 3


class _CulpritError(DeliveryError):
    """One event's handler failed: rolls the transaction of all of them back."""

    def __init__(self, event_id: UUID) -> None:
        self.event_id = event_id
        super().__init__(f"the handler of event {event_id} failed")


class _SplitError(DeliveryError):
    """Rolls the transaction back: these cannot be handled together."""


class GroupCommit:
    """Runs a handler on several events: one attempt each, one transaction."""

    def __init__(
        self, parking: Parking, open_unit_of_work: OpenUnitOfWork, runtime: Runtime, one_by_one: IdempotentConsumer
    ) -> None:
        self._parking, self._open, self._runtime, self._one_by_one = parking, open_unit_of_work, runtime, one_by_one

    async def deliver(
        self, subscriber: Subscriber, received: Sequence[Received], is_stopping: Callable[[], bool]
    ) -> Collection[UUID]:
        """Handle first deliveries together; gives the ids of those that are taken care of. The others are as before."""
        batch = {one.envelope.event_id: one for one in received}
        culprits: dict[UUID, BaseException] = {}
        while len(culprits) <= _MOST_CULPRITS:
            try:
                together = partial(self._together, subscriber, batch, culprits)
                outcomes = await self._one_by_one.until_possible(together, is_stopping)
            except _CulpritError as found:
                culprits[found.event_id] = found.__cause__ or found
                continue
            except BaseException as error:
                if requested(error, is_stopping):
                    raise
                log.info("batch.split", subscriber=subscriber.id, events=len(batch), error=type(error).__name__)
                return ()
            for event_id, outcome in outcomes.items():
                if event_id in culprits:
                    self._one_by_one.log_failure(subscriber, batch[event_id], 1, culprits[event_id])
                self._one_by_one.counted(subscriber, batch[event_id], outcome)
                await self._parking.tell(subscriber, batch[event_id], outcome)
            return outcomes.keys()
        return ()

    async def _together(
        self, subscriber: Subscriber, batch: Mapping[UUID, Received], culprits: Mapping[UUID, BaseException]
    ) -> Mapping[UUID, Outcome]:
        received, parking, timeout = list(batch.values()), self._parking, subscriber.entry.timeout
        outcomes: dict[UUID, Outcome] = {}
        async with self._open(*known_of(subscriber, received[0], 1)) as uow:
            connection = await uow.session.connection()
            try:
                claims = await parking.claim_all(connection, subscriber, received)
            except ClaimBusyError as error:
                raise _SplitError("one of them is being handled elsewhere") from error
            self._runtime.reached("inbox.after_insert")
            if Claim.CONFLICT in claims.values():
                raise _SplitError("one of them has to be quarantined")
            blocked = await parking.blocked_keys(connection, subscriber, received)
            skipped = dict(await parking.skipped_of_keys(connection, subscriber, received))
            left: list[tuple[Received, Sequence[UUID]]] = []
            for event_id, one in batch.items():
                key = one.envelope.key
                if claims[event_id] is Claim.DUPLICATE:
                    outcomes[event_id] = Outcome.DUPLICATE
                elif key in blocked:
                    outcomes[event_id] = await parking.park_behind(connection, subscriber, one)
                elif event_id in culprits:
                    outcomes[event_id] = await parking.park_failed(connection, subscriber, one, culprits[event_id])
                    if key is None or not subscriber.keeps_order:
                        continue
                    if subscriber.skips_dead and outcomes[event_id] is Outcome.DEAD:
                        skipped[key] = [*skipped.get(key, ()), event_id][:MOST_SKIPPED]
                    else:
                        blocked.add(key)
                else:
                    outcomes[event_id] = Outcome.HANDLED
                    left.append((one, skipped.get(key, ())))
            deadline = asyncio.timeout(timeout.total_seconds())
            async with deadline:
                await self._handle(subscriber, left, uow)
            # A handler that hid the cancellation, or never let the loop look at the clock, has timed out as well.
            if deadline.expired() or asyncio.get_running_loop().time() >= (deadline.when() or 0):
                raise HandlerTimeoutError(subscriber.id, timeout)
            self._runtime.reached("inbox.before_commit")
        self._runtime.reached("inbox.after_commit")
        return outcomes

    async def _handle(
        self, subscriber: Subscriber, received: Sequence[tuple[Received, Sequence[UUID]]], uow: HandlingUnitOfWork
    ) -> None:
        """`received` are events, each with what of its key is skipped."""
        events: list[Any] = []

        async def gather(event: Any) -> None:
            events.append(event)

        for one, skipped in received:
            turn_to(uow, subscriber, one, 1, skipped)
            try:
                if subscriber.entry.takes_batches:
                    await inside_middleware(subscriber, one, uow, gather)
                else:
                    await handle(subscriber, one, uow, self._runtime, flush=False)
            except Exception as error:
                if is_transient(error) or subscriber.circuit.is_outage(error):
                    raise
                # Or the one that left in the session what this one's statement stumbled over: they meet again then.
                raise _CulpritError(one.envelope.event_id) from error
        if events:
            uow.turn_to(*known_of(subscriber, received[0][0], 1))
            result = await subscriber.invoke(subscriber.build(uow), events, uow)
            self._runtime.reached("handler.midway")
            publish_answers(subscriber, result, uow)
            await uow.dispatch_events()
