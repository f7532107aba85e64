"""Statements on the inbox: taking charge of an event for a subscriber, once.

The insert comes first and decides: a look-up would let two deliveries through that arrive at the same moment. A claim
that another transaction holds is not waited for, or not for long, because that transaction may take its time.

    SQLite          one transaction writes at a time, so nobody meets another's claim
    PostgreSQL      ON CONFLICT DO NOTHING, if an advisory lock on the claim is free
    MariaDB, MySQL  plain INSERT, where error 1062 means "known" (INSERT IGNORE would hide every other error as well),
                    with a lock wait of one second
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, String, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import ClaimBusyError
from mediator.storage.columns import MYSQL_NOW, EventId, Hash, database_now
from mediator.storage.mysql import DUPLICATE_KEY, LOCK_TIMEOUT, Impatient, error_number
from mediator.storage.postgresql import lock_number
from mediator.storage.tables import Tables

__all__ = ["Claim", "InboxTable"]

_MYSQL_WAIT_SECONDS = 1


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
        self._place = tables.place
        self._claim = {"postgresql": self._claim_postgresql, "sqlite": self._claim_sqlite}.get(
            tables.dialect, self._claim_mysql
        )
        parameters = (
            bindparam("subscriber_id", type_=String(100)),
            bindparam("event_id", type_=EventId()),
            bindparam("payload_hash", type_=Hash),
        )
        names = [parameter.key for parameter in parameters]
        # RETURNING instead of rowcount: psycopg reports -1 after ON CONFLICT DO NOTHING.
        self._sqlite = sqlite.insert(self._inbox).on_conflict_do_nothing().returning(self._inbox.c.event_id)
        self._postgresql = (
            postgresql.insert(self._inbox)
            .from_select(
                [*names, "processed_at"],
                select(*parameters, database_now()).where(
                    func.pg_try_advisory_xact_lock(bindparam("lock", type_=BigInteger()))
                ),
            )
            .on_conflict_do_nothing()
            .returning(self._inbox.c.event_id)
        )
        columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
        insert = f"INSERT INTO {self._inbox.fullname} ({columns}, processed_at) VALUES ({values}, {MYSQL_NOW})"  # noqa: S608
        self._mysql = Impatient(insert, parameters, _MYSQL_WAIT_SECONDS)

    async def claim(
        self, connection: AsyncConnection, subscriber_id: str, aliases: Sequence[str], event_id: UUID, payload: bytes
    ) -> Claim:
        """Take charge of an event in the transaction of `connection`, unless it was taken before.

        Raises ClaimBusyError when another transaction is about to.
        """
        taken = await self._claim(
            connection, {"subscriber_id": subscriber_id, "event_id": event_id, "payload_hash": payload}
        )
        if taken and not aliases:
            return Claim.TAKEN
        known = await self.known_hash(connection, aliases if taken else [subscriber_id], event_id)
        if known is None:
            if not taken:
                raise ClaimBusyError(subscriber_id, event_id)
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

    async def _claim_sqlite(self, connection: AsyncConnection, row: dict[str, Any]) -> bool:
        return (await connection.execute(self._sqlite, [row])).first() is not None

    async def _claim_postgresql(self, connection: AsyncConnection, row: dict[str, Any]) -> bool:
        lock = lock_number("claim", self._place, row["subscriber_id"], row["event_id"].hex)
        return (await connection.execute(self._postgresql, {**row, "lock": lock})).first() is not None

    async def _claim_mysql(self, connection: AsyncConnection, row: dict[str, Any]) -> bool:
        try:
            await self._mysql.execute(connection, row)
        except (IntegrityError, OperationalError) as error:
            if error_number(error) not in {DUPLICATE_KEY, LOCK_TIMEOUT}:
                raise
            return False
        return True
