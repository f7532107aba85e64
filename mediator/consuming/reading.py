"""Reading a delivery: from headers and bytes to an event of a known class, or to a dead letter.

    receive → limits → headers, whoever wrote them → type and version from the catalog → upcast → validate

Everything that can be wrong with a message from the wire ends in one error with a reason. It is stored with the raw
bytes under an id made of its content, so that it is kept once however often it is delivered, and it never loops.
"""

import json
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final
from uuid import UUID, uuid5

from mediator.clock import Runtime
from mediator.consuming.failures import failure_facts
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received
from mediator.messaging.cloudevents import from_headers
from mediator.messaging.envelope import LONGEST_TEXT
from mediator.messaging.foreign import ForeignSettings, in_binary_mode
from mediator.messaging.limits import Limits
from mediator.messaging.transport import Delivery
from mediator.observability import Counters
from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.parked import DEAD, ParkedTable

__all__ = ["Reader", "reading_subscriber"]

_MOST_KEPT: Final = 4 * 1024 * 1024
"""Bytes of a body: more than any limit lets pass, and what every database takes in a statement."""
_UNREADABLE: Final = UUID("6f1a3d8e-1f5c-5b39-9c86-2f6f0b7f6a11")


def reading_subscriber(module: str) -> str:
    """The id under which a module keeps what it cannot read: nobody's handler, so it cannot clash with one."""
    return f"@{module}"


class Reader:
    """Reads deliveries for one module."""

    def __init__(
        self,
        module: str,
        catalog: EventCatalog,
        limits: Limits,
        foreign: ForeignSettings,
        database: Database,
        runtime: Runtime,
        died: Callable[[str, UUID], Awaitable[None]],
        counters: Counters,
    ) -> None:
        self._subscriber_id, self._runtime = reading_subscriber(module), runtime
        self._catalog, self._limits, self._database, self._died = catalog, limits, database, died
        self._foreign, self._counters = foreign, counters
        self._inbox, self._parked = InboxTable(database.tables), ParkedTable(database)

    def read(self, delivery: Delivery) -> Received:
        """The event in `delivery`; raises UnreadableMessageError with the reason and the place, whatever is wrong."""
        try:
            return self._read(delivery)
        except UnreadableMessageError:
            raise
        except Exception as error:
            # Nobody foresaw it. The message is kept all the same, and the next one is read.
            raise UnreadableMessageError("unexpected", type(error).__name__, str(error)) from error

    def _read(self, delivery: Delivery) -> Received:
        headers, body = in_binary_mode(delivery, self._foreign, self._catalog, self._limits)
        key = delivery.key or ""
        is_text = 0 < len(key) <= LONGEST_TEXT and key.isprintable()
        now = self._runtime.now()
        envelope = from_headers(delivery.topic, headers, body, key=key if is_text else None, arrived=now)
        return Received(envelope, self._catalog, self._limits)

    def count(self, received: Received) -> None:
        """Count what was ignored of an arrival; its retries are read again, and say nothing new."""
        if ignored := received.unknown_fields():
            self._counters.add("unknown_field_ignored", received.entry.topic.full_type, ignored)

    async def announce(self, subscriber_id: str, event_id: UUID) -> None:
        """Tell the application that a parked delivery cannot be read any more."""
        await self._died(subscriber_id, event_id)

    async def bury(self, delivery: Delivery, error: UnreadableMessageError) -> None:
        """Keep what cannot be read as a dead letter, raw."""
        # Headers may hold anything; escaped to ASCII they can be stored everywhere.
        headers = json.dumps({str(name): str(value) for name, value in delivery.headers.items()}, sort_keys=True)
        content = blake2b(
            b"\0".join((delivery.topic.encode(), headers.encode(), delivery.body)), digest_size=16
        ).digest()
        identity = uuid5(_UNREADABLE, content.hex())
        self._runtime.reached("dead.before_store")
        async with self._database.begin() as connection:
            claim = await self._inbox.claim(connection, self._subscriber_id, (), identity, content)
            if claim is Claim.TAKEN:
                values = {
                    "subscriber_id": self._subscriber_id,
                    "event_id": identity,
                    "status": DEAD,
                    "reason": f"unreadable: {error.reason}"[:40],
                    "topic": delivery.topic[:249],
                    "headers": headers,
                    "body": delivery.body[:_MOST_KEPT],
                    **failure_facts(error),
                }
                if len(delivery.body) > _MOST_KEPT:
                    values["error"] += f"; of its {len(delivery.body)} bytes the first {_MOST_KEPT} are kept"
                await self._parked.park(connection, values)
        if claim is Claim.TAKEN:
            await self._died(self._subscriber_id, identity)
