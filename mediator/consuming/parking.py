"""Parking: a subscriber takes charge of an event without having handled it, or gives it up.

Inbox row and parked row are written together: from then on the broker does not have to keep the event, a duplicate of
it is skipped, and the attempts that are left run from the database. What is given up stays as a dead letter; the
application is told after that is committed.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.clock import Runtime
from mediator.consuming.failures import failure_facts
from mediator.consuming.subscriber import Subscriber
from mediator.errors import IdentityConflictError
from mediator.messaging.catalog import Received
from mediator.messaging.cloudevents import to_headers
from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.parked import BLOCKED, DEAD, RETRY, ParkedTable

__all__ = ["OUTAGE", "Outcome", "Parking"]

OUTAGE = "outage"
"""The reason of a delivery that waits because what its handler depends on is away."""
_MARGIN = timedelta(seconds=1)
_TO_BEGIN = timedelta(seconds=5)
"""What is counted and has not begun is left alone for so long; on SQLite it waits for the one writer."""


class Outcome(Enum):
    """What became of an event at one subscriber; the value is the counter's name."""

    HANDLED = "handled"
    DUPLICATE = "duplicate_skipped"
    CONFLICT = "conflict_quarantined"
    PARKED = "parked"
    DEAD = "died"


class Parking:
    """Claims, parks and buries for the subscribers of one database."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        parked_one: Callable[[], None],
        died: Callable[[str, UUID], Awaitable[None]],
    ) -> None:
        self._database, self._runtime, self._parked_one, self._died = database, runtime, parked_one, died
        self._inbox, self._rows = InboxTable(database.tables), ParkedTable(database)

    async def claim(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> Claim:
        """Take charge of an event in the transaction of `connection`, unless this subscriber did before."""
        return await self._inbox.claim(
            connection, subscriber.id, subscriber.aliases, received.envelope.event_id, received.payload_hash
        )

    async def claim_all(
        self, connection: AsyncConnection, subscriber: Subscriber, received: Sequence[Received]
    ) -> Mapping[UUID, Claim]:
        """The same for several events; raises ClaimBusyError when one of them is being handled elsewhere."""
        payloads = {one.envelope.event_id: one.payload_hash for one in received}
        return await self._inbox.claim_all(connection, subscriber.id, subscriber.aliases, payloads)

    async def blocked_keys(
        self, connection: AsyncConnection, subscriber: Subscriber, received: Sequence[Received]
    ) -> set[str]:
        """The keys of which an earlier delivery is parked, for a subscriber that keeps order."""
        keys = {one.envelope.key for one in received if one.envelope.key is not None}
        if not subscriber.keeps_order or not keys:
            return set()
        return await self._rows.blocked_keys(connection, subscriber.id, keys, skips_dead=subscriber.skips_dead)

    async def is_blocked(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> bool:
        """Whether an earlier delivery of the event's key is parked, for a subscriber that keeps order."""
        key = received.envelope.key
        if not subscriber.keeps_order or key is None:
            return False
        return await self._rows.blocks(connection, subscriber.id, key, skips_dead=subscriber.skips_dead)

    async def skipped(
        self, connection: AsyncConnection, subscriber: Subscriber, received: Received, before: int | None = None
    ) -> Sequence[UUID]:
        """The dead events of its key that an event is handled without, if its subscriber skips them.

        `before` is the position of one that is parked itself.
        """
        key = received.envelope.key
        return (await self.skipped_of_keys(connection, subscriber, [received], before)).get(key, ())

    async def skipped_of_keys(
        self,
        connection: AsyncConnection,
        subscriber: Subscriber,
        received: Sequence[Received],
        before: int | None = None,
    ) -> Mapping[str | None, Sequence[UUID]]:
        """The same for several events, by key."""
        keys = {one.envelope.key for one in received if one.envelope.key is not None}
        if not subscriber.skips_dead or not keys:
            return {}
        return await self._rows.skipped(connection, subscriber.id, keys, before)

    async def take_charge(
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
        if status == DEAD:
            self._runtime.reached("dead.before_store")
        async with self._database.begin() as connection:
            claim = await self.claim(connection, subscriber, received)
            if claim is not Claim.TAKEN:
                # An alias may know the event although the row went in: nothing of it stays.
                await connection.rollback()
            else:
                if await self.is_blocked(connection, subscriber, received):
                    status, reason = BLOCKED, "behind its key"
                await self._rows.park(
                    connection,
                    _values(subscriber.id, received, status, reason, attempts, error),
                    delay=delay if status == RETRY else None,
                )
        if claim is Claim.CONFLICT:
            return await self.quarantine(subscriber, received)
        if claim is Claim.DUPLICATE:
            return Outcome.DUPLICATE
        outcome = Outcome.DEAD if status == DEAD else Outcome.PARKED
        await self.tell(subscriber, received, outcome)
        return outcome

    async def park_behind(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> Outcome:
        """Park an event, claimed in this transaction, behind an earlier one of its key."""
        values = _values(subscriber.id, received, BLOCKED, "behind its key", 0, None)
        await self._rows.park(connection, values)
        return Outcome.PARKED

    async def park_failed(
        self, connection: AsyncConnection, subscriber: Subscriber, received: Received, error: BaseException
    ) -> Outcome:
        """Park an event, claimed in this transaction, whose first attempt failed in another, or give it up."""
        policy = subscriber.entry.retry
        if is_dead := policy.gives_up(1, error):
            self._runtime.reached("dead.before_store")
        values = _values(subscriber.id, received, DEAD if is_dead else RETRY, "failed", 1, error)
        delay = None if is_dead else policy.delay_after(1, self._runtime.random, error)
        await self._rows.park(connection, values, delay=delay)
        return Outcome.DEAD if is_dead else Outcome.PARKED

    async def tell(self, subscriber: Subscriber, received: Received, outcome: Outcome) -> None:
        """Tell those who wait for what was parked, or the application of what died, after the commit."""
        if outcome is Outcome.DEAD:
            await self._died(subscriber.id, received.envelope.event_id)
        elif outcome is Outcome.PARKED:
            self._parked_one()

    async def count_attempt(self, subscriber: Subscriber, position: int, counted: int) -> bool:
        """Count an attempt before it runs; False when another run was faster."""
        entry = subscriber.entry
        delay = max(entry.retry.delay_after(counted + 1, self._runtime.random), _TO_BEGIN)
        if entry.blocking:
            # Its run holds no lock, so nobody else may take it for crashed before its time is over.
            delay = max(delay, entry.timeout + _MARGIN)
        return await self._rows.claim(position, counted, delay)

    async def uncount_attempt(self, position: int, attempt: int) -> None:
        """Take a counted attempt back: what ended it was nobody's failure."""
        await self._rows.unclaim(position, attempt)

    async def finish(self, connection: AsyncConnection, position: int, attempt: int) -> bool:
        """Remove a parked delivery in the transaction of its handler; False when another run was faster."""
        return await self._rows.finish(connection, position, attempt)

    async def release_next(self, connection: AsyncConnection, subscriber: Subscriber, key: str | None) -> None:
        """Let the delivery go that waits behind the one which was handled."""
        # Asked even of those that keep no order: they may have kept it when the deliveries were parked.
        if key is not None:
            await self._rows.release_next(connection, subscriber.id, key, skips_dead=subscriber.skips_dead)

    async def failed(
        self, subscriber: Subscriber, received: Received, position: int, attempt: int, error: BaseException
    ) -> Outcome:
        """Record why an attempt of a parked delivery failed: it waits for the next one, or is given up."""
        policy, facts = subscriber.entry.retry, {"reason": "failed", **failure_facts(error)}
        if not policy.gives_up(attempt, error):
            await self._rows.fail(position, attempt, policy.delay_after(attempt, self._runtime.random, error), facts)
            self._parked_one()
            return Outcome.PARKED
        self._runtime.reached("dead.before_store")
        if await self._rows.die(position, attempt, facts, skips_dead=subscriber.skips_dead):
            await self._died(subscriber.id, received.envelope.event_id)
        return Outcome.DEAD

    async def postponed(self, subscriber: Subscriber, position: int, attempt: int, error: BaseException) -> Outcome:
        """Take a counted attempt back because its failure was an outage: the delivery waits for the end of it."""
        facts = {"attempts": attempt - 1, "reason": OUTAGE, **failure_facts(error)}
        await self._rows.fail(position, attempt, subscriber.circuit.pause, facts)
        self._parked_one()
        return Outcome.PARKED

    async def quarantine(self, subscriber: Subscriber, received: Received) -> Outcome:
        """Keep another content under a known id as a dead letter, under an id made of both."""
        envelope = received.envelope
        identity = uuid5(envelope.event_id, received.payload_hash.hex())
        error = IdentityConflictError(subscriber.id, envelope.event_id)
        self._runtime.reached("dead.before_store")
        async with self._database.begin() as connection:
            claim = await self._inbox.claim(connection, subscriber.id, (), identity, received.payload_hash)
            if claim is Claim.TAKEN:
                values = _values(subscriber.id, received, DEAD, "identity conflict", 0, error)
                # Without its key: nothing that is right waits behind what is wrong.
                await self._rows.park(connection, {**values, "event_id": identity, "partition_key": None})
        if claim is Claim.TAKEN:
            await self._died(subscriber.id, identity)
        return Outcome.CONFLICT


def _values(
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
