"""Statements on the inbox: taking charge of an event for a subscriber, once.

The insert comes first and decides: a look-up would let two deliveries through that arrive at the same moment, while the
insert makes the second wait for the first.
"""

from collections.abc import Sequence
from enum import Enum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.tables import Tables

__all__ = ["Claim", "InboxTable"]


class Claim(Enum):
    """What came of taking charge of an event."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """Known under this id, with another content."""


class InboxTable:
    """What the consumer does to the inbox."""

    def __init__(self, tables: Tables) -> None:
        self._inbox = tables.inbox
        # RETURNING instead of rowcount: some drivers report -1 after ON CONFLICT DO NOTHING.
        self._claim = insert(self._inbox).on_conflict_do_nothing().returning(self._inbox.c.event_id)

    async def claim(
        self, connection: AsyncConnection, subscriber_id: str, aliases: Sequence[str], event_id: UUID, payload: bytes
    ) -> Claim:
        """Take charge of an event in the transaction of `connection`, unless it was taken before."""
        row = {"subscriber_id": subscriber_id, "event_id": event_id, "payload_hash": payload}
        taken = (await connection.execute(self._claim, [row])).first() is not None
        if taken and not aliases:
            return Claim.TAKEN
        known = await self.known_hash(connection, aliases if taken else [subscriber_id], event_id)
        if known is None:
            return Claim.TAKEN
        return Claim.DUPLICATE if known == payload else Claim.CONFLICT

    async def known_hash(
        self, connection: AsyncConnection, subscriber_ids: Sequence[str], event_id: UUID
    ) -> bytes | None:
        """The payload hash under which one of these subscribers took charge of an event, or None."""
        return await connection.scalar(
            select(self._inbox.c.payload_hash)
            .where(self._inbox.c.subscriber_id.in_(subscriber_ids), self._inbox.c.event_id == event_id)
            .limit(1)
        )
