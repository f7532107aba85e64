"""Statements on the inbox: taking charge of an event for a subscriber, once.

The insert comes first and decides: a look-up would let two deliveries through that arrive at the same moment. A claim
that another transaction holds is not waited for, or not for long, because that transaction may take its time.

    SQLite          one transaction writes at a time, so nobody meets another's claim
    PostgreSQL      ON CONFLICT DO NOTHING, if an advisory lock on the claim is free
    MariaDB, MySQL  plain INSERT, where error 1062 means "known" (INSERT IGNORE would hide every other error as well),
                    with a lock wait of one second

Several events at once are looked up and then inserted plainly: where that meets another's claim, whoever asked takes
them one by one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, String, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import ClaimBusyError
from mediator.storage.columns import MYSQL, MYSQL_NOW, EventId, Hash, database_now
from mediator.storage.mysql import DUPLICATE_KEY, LOCK_TIMEOUT, Impatient, error_number, lock_wait
from mediator.storage.postgresql import LOCK_NOT_AVAILABLE, error_state, lock_number
from mediator.storage.tables import Tables

__all__ = ["Claim", "InboxTable"]

_MYSQL_WAIT_SECONDS, _POSTGRESQL_WAIT_MS = 1, 250


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

    async def claim_all(
        self, connection: AsyncConnection, subscriber_id: str, aliases: Sequence[str], payloads: Mapping[UUID, bytes]
    ) -> Mapping[UUID, Claim]:
        """Take charge of several events in the transaction of `connection`, those that were taken before excepted.

        Raises ClaimBusyError when another transaction is about to take one of them; nothing else can be done in the
        transaction then.
        """
        row = self._inbox.c
        found = await connection.execute(
            select(row.event_id, row.payload_hash).where(
                row.subscriber_id.in_([subscriber_id, *aliases]), row.event_id.in_(list(payloads))
            )
        )
        known = {event_id: bytes(payload) for event_id, payload in found}
        # In one order everywhere, or two transactions that take the same events would wait for each other.
        fresh = sorted(payloads.keys() - known.keys())
        if fresh:
            # With the moment in it the driver of MySQL could not join the rows into one statement.
            now = await connection.scalar(select(database_now()))
            rows = [
                {"subscriber_id": subscriber_id, "event_id": one, "payload_hash": payloads[one], "processed_at": now}
                for one in fresh
            ]
            try:
                async with _waiting_briefly(connection):
                    await connection.execute(insert(self._inbox), rows)
            except DBAPIError as error:
                timed_out = error_number(error) == LOCK_TIMEOUT or error_state(error) == LOCK_NOT_AVAILABLE
                if not isinstance(error, IntegrityError) and not timed_out:
                    raise
                raise ClaimBusyError(subscriber_id, fresh[0]) from error
        claims = {one: Claim.DUPLICATE if known[one] == payloads[one] else Claim.CONFLICT for one in known}
        return {one: claims.get(one, Claim.TAKEN) for one in payloads}

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


@asynccontextmanager
async def _waiting_briefly(connection: AsyncConnection) -> AsyncIterator[None]:
    """Statements in the block wait for another's lock for a moment only."""
    if connection.dialect.name in MYSQL:
        async with lock_wait(connection, _MYSQL_WAIT_SECONDS):
            yield
    elif connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_POSTGRESQL_WAIT_MS}")
        yield
        # Not after an error: the transaction has ended then, and this setting with it.
        await connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
    else:
        yield
