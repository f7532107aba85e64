"""Variants of the toolkit that are broken on purpose: a harness that does not catch them proves nothing.

Each is a subclass of the real thing, put in its place by name, in a child process only.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Select, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.consuming.consumer import Consumer
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.parking import Outcome, Parking
from mediator.consuming.subscriber import Subscriber
from mediator.messaging.catalog import Received
from mediator.messaging.limits import Limits
from mediator.publishing.outbox import OutboxWriter
from mediator.publishing.relay import Relay
from mediator.publishing.unit_of_work import SqlUnitOfWork
from mediator.storage.columns import database_now, none_of
from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.outbox import SLOTS, Key, OutboxTable, key_of
from mediator.storage.parked import DEAD, ParkedTable
from tests.ledger.payments import TransferRefusedError

__all__ = ["STRAINS", "VARIANTS", "break_it"]

_LEASE = 200
"""Milliseconds for which a row that was taken is not taken again."""


class InboxApart(IdempotentConsumer):
    """The inbox row has a transaction of its own, and is taken back when the handler fails."""

    async def _attempt(
        self,
        subscriber: Subscriber,
        received: Received,
        attempt: int,
        begin: Callable[[AsyncConnection], Awaitable[Sequence[UUID]]],
        count: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        if count is not None:
            return await super()._attempt(subscriber, received, attempt, begin, count)
        async with self._database.begin() as connection:
            await begin(connection)
        try:
            return await super()._attempt(subscriber, received, attempt, _nothing)
        except Exception:
            inbox = self._database.tables.inbox
            mine = (inbox.c.subscriber_id == subscriber.id, inbox.c.event_id == received.envelope.event_id)
            async with self._database.begin() as connection:
                await connection.execute(inbox.delete().where(*mine))
            raise


class AckFirst(Consumer):
    """Acknowledges, then hands out."""

    async def _hand_out(self, received: Received, open_delivery: Any) -> None:
        await self._settle(open_delivery)
        self._open.add(open_delivery)
        await super()._hand_out(received, open_delivery)


class DeleteFirst(Relay):
    """Removes rows from the outbox, then publishes them."""

    async def _publish(self, rows: Sequence[RowMapping]) -> None:
        await self._outbox.complete([key_of(row) for row in rows], keep_history=True)
        await super()._publish(rows)


class ByClassName(Parking):
    """Knows a subscriber by the name of its class."""

    async def claim(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> Claim:
        name = subscriber.entry.handler_class.__name__
        return await self._inbox.claim(connection, name, (), received.envelope.event_id, received.payload_hash)


class ForgetfulRetries(Parking):
    """What failed is parked as a new event."""

    async def take_charge(self, subscriber: Subscriber, received: Received, **options: Any) -> Outcome:
        if options.get("error") is not None and options["status"] != DEAD:
            identity = uuid4()
            body = json.dumps({**json.loads(received.envelope.body), "event_id": str(identity)}).encode()
            envelope = replace(received.envelope, event_id=identity, body=body)
            received = Received(envelope, received._catalog, Limits())
        return await super().take_charge(subscriber, received, **options)


class DroppedDead(Parking):
    """What dies is only counted."""

    async def take_charge(self, subscriber: Subscriber, received: Received, **options: Any) -> Outcome:
        if options["status"] == DEAD:
            return Outcome.DEAD
        return await super().take_charge(subscriber, received, **options)


class NothingWaits(Parking):
    """A failing event does not hold back the later ones of its key."""

    async def is_blocked(self, connection: AsyncConnection, subscriber: Subscriber, received: Received) -> bool:
        return False


class NeverExpired:
    """A timeout that takes the handler's word for having ended well."""

    def __init__(self, seconds: float) -> None:
        self._deadline = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._deadline.__aexit__(kind, error, trace)

    def expired(self) -> bool:
        return False

    def when(self) -> float:
        return math.inf


class NoHeadOfLine(OutboxTable):
    """Rows overtake those of their key that were refused."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._fetch = _due_rows(database).limit(bindparam("at_most", type_=BigInteger()))


class IdCursor(OutboxTable):
    """Remembers how far it came, and never looks back."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._last: dict[int, int] = {}

    async def fetch(
        self, slot: int, at_most: int, *, without: Collection[Key], without_keys: Collection[str]
    ) -> Sequence[RowMapping]:
        found = await super().fetch(slot, 1_000, without=without, without_keys=without_keys)
        rows = [row for row in found if row["position"] > self._last.get(slot, 0)][:at_most]
        if rows:
            self._last[slot] = rows[-1]["position"]
        return rows


class SkipLocked(OutboxTable):
    """Relays pass by what another one has locked, and take what comes after it."""

    async def fetch(
        self, slot: int, at_most: int, *, without: Collection[Key], without_keys: Collection[str]
    ) -> Sequence[RowMapping]:
        outbox = self._tables.outbox
        free = _due_rows(self._database).limit(at_most).with_for_update(skip_locked=True)
        parameters = {"of_slot": slot, "positions": [position for _, position in without]}
        async with self._database.begin() as connection:
            rows = (await connection.execute(free, parameters)).mappings().all()
            await asyncio.sleep(0)
            taken = (outbox.c.slot == slot, outbox.c.position.in_([row["position"] for row in rows]))
            await connection.execute(update(outbox).where(*taken).values(next_attempt_at=database_now() + _LEASE))
        return [row for row in rows if row["partition_key"] not in without_keys]


def _due_rows(database: Database) -> Select[Any]:
    """The due rows of a slot, whatever their keys."""
    outbox, row = database.tables.outbox, database.tables.outbox.c
    return (
        select(outbox)
        .where(
            row.slot == bindparam("of_slot"),
            or_(row.next_attempt_at.is_(None), row.next_attempt_at <= database_now()),
            none_of(row.position, "positions", database.dialect),
        )
        .order_by(row.position)
    )


class NoLocks:
    """Every relay has every slot."""

    def __init__(self, database: Database) -> None:
        """Asks nobody."""

    async def acquire(self, busy: Collection[int]) -> frozenset[int]:
        return frozenset(range(SLOTS))

    async def leave(self, busy: Collection[int]) -> None:
        """There is nothing to give up."""

    async def release(self) -> None:
        """Nor here."""


class LookUpFirst(InboxTable):
    """Looks whether an event is known, and then takes it."""

    async def claim(
        self, connection: AsyncConnection, subscriber_id: str, aliases: Sequence[str], event_id: UUID, payload: bytes
    ) -> Claim:
        if await self.known_hash(connection, [subscriber_id], event_id) is not None:
            return Claim.DUPLICATE
        row = {"subscriber_id": subscriber_id, "event_id": event_id, "payload_hash": payload}
        if connection.dialect.name == "postgresql":
            await connection.execute(postgresql.insert(self._inbox).on_conflict_do_nothing(), row)
        else:
            await connection.execute(insert(self._inbox).prefix_with("IGNORE"), row)
        return Claim.TAKEN


class UncomparedRetries(ParkedTable):
    """Runs a retry without asking whether somebody else does."""

    async def claim(self, position: int, attempts: int, delay: timedelta) -> bool:
        await super().claim(position, attempts, delay)
        return True

    async def finish(self, connection: AsyncConnection, position: int, attempts: int) -> bool:
        await connection.execute(delete(self._parked).where(self._parked.c.position == position))
        return True


class LateOutbox(OutboxWriter):
    """Keeps the rows until somebody asks for them."""

    async def write(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        """Nothing yet."""


class OutboxAfterCommit(SqlUnitOfWork):
    """Writes to the outbox when the change is committed."""

    async def _commit(self) -> None:
        await super()._commit()
        if self._rows:
            async with self.database.begin() as connection:
                await OutboxWriter.write(self._services.outbox, connection, self._rows)


class Ghosts(SqlUnitOfWork):
    """Publishes what was rolled back as well."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rows = self._rows
        try:
            await super().__aexit__(kind, error, trace)
        except TransferRefusedError:
            async with self.database.begin() as connection:
                await self._services.outbox.write(connection, rows)
            raise


async def _nothing(_connection: AsyncConnection) -> Sequence[UUID]:
    """There is nothing to begin with."""
    return ()


def _put(name: str, replacement: object) -> Callable[[], None]:
    """Puts `replacement` where the toolkit looks up `name`, `module:attribute`."""
    module, attribute = name.split(":")

    def put() -> None:
        home = import_module(f"mediator.{module}")
        assert hasattr(home, attribute), f"{name} is looked up elsewhere now"
        setattr(home, attribute, replacement)

    return put


def _skip_locked() -> None:
    STRAINS["every relay has every slot"]()
    _put("publishing.relay:OutboxTable", SkipLocked)()


def _look_up_first() -> None:
    STRAINS["every relay has every slot"]()
    _put("consuming.parking:InboxTable", LookUpFirst)()


def _outbox_after_commit() -> None:
    _put("hosting.services:OutboxWriter", LateOutbox)()
    _put("hosting.services:SqlUnitOfWork", OutboxAfterCommit)()


VARIANTS: dict[str, Callable[[], None]] = {
    "inbox in a transaction of its own": _put("hosting.listening:IdempotentConsumer", InboxApart),
    "ack first": _put("hosting.listening:Consumer", AckFirst),
    "delete before publish": _put("hosting.services:Relay", DeleteFirst),
    "dedup by class name": _put("hosting.listening:Parking", ByClassName),
    "retries forget the event id": _put("hosting.listening:Parking", ForgetfulRetries),
    "dead letters dropped": _put("hosting.listening:Parking", DroppedDead),
    "nothing waits behind a failure": _put("hosting.listening:Parking", NothingWaits),
    "swallowed cancellation": _put(
        "consuming.idempotent_consumer:asyncio", SimpleNamespace(**{**vars(asyncio), "timeout": NeverExpired})
    ),
    "no head of line": _put("publishing.relay:OutboxTable", NoHeadOfLine),
    "id cursor": _put("publishing.relay:OutboxTable", IdCursor),
    "outbox after commit": _outbox_after_commit,
    "rolled-back events published": _put("hosting.services:SqlUnitOfWork", Ghosts),
    "skip locked instead of slots": _skip_locked,
    "claim by look-up": _look_up_first,
    "retries that nobody compares": _put("consuming.parking:ParkedTable", UncomparedRetries),
}

STRAINS: dict[str, Callable[[], None]] = {"every relay has every slot": _put("publishing.relay:slot_locks", NoLocks)}
"""Not broken: what the toolkit has to bear without breaking a promise."""


def break_it(name: str) -> None:
    """Put a variant in place, in this process."""
    {**VARIANTS, **STRAINS}[name]()
