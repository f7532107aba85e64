"""Statements on parked deliveries.

    retry      its next attempt is due at next_attempt_at
    blocked    waits behind an earlier delivery of its key
    dead       is no longer tried and waits for a person
    discarded  a person decided against it; can be restored

Behind a dead one the later ones of its key wait, or go on without it if their handler skips the dead: that is asked of
every statement on keys (`skips_dead`) and stored nowhere, so that a handler may change its mind.

Claiming compares the number of attempts and counts up, in one statement; finishing deletes the row under the same
number. So of two runs of one retry only one can commit, on every database and without a lease.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, case, delete, func, insert, literal, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import CursorResult, RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.attempts import begun, failed, taken_back
from mediator.storage.columns import MYSQL, NOW, database_now, milliseconds
from mediator.storage.database import Database

__all__ = ["BLOCKED", "DEAD", "DISCARDED", "MOST_SKIPPED", "RETRY", "RUNNING", "SENDING_SIDE", "ParkedTable"]

RETRY: Final = "retry"
BLOCKED: Final = "blocked"
DEAD: Final = "dead"
DISCARDED: Final = "discarded"
RUNNING: Final = "running"
"""The reason of a delivery whose attempt has begun; still there when it is due again, the process died in it."""

SENDING_SIDE: Final = "@outbox"
"""The subscriber id of what could not be sent."""

MOST_SKIPPED: Final = 20
"""How many skipped events of a key are named."""

_IN_THE_WAY: Final = {False: (RETRY, BLOCKED, DEAD), True: (RETRY, BLOCKED)}
"""What the later ones of a key wait behind, by whether their handler skips the dead."""
_KEYS_AT_ONCE = 500


class ParkedTable:
    """What consumers, retries and operators do to parked deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parked = database.tables.parked

    async def park(
        self, connection: AsyncConnection, values: Mapping[str, Any], *, delay: timedelta | None = None
    ) -> None:
        """Store a delivery; `delay` says when its next attempt is due, None that none is planned."""
        due = {} if delay is None else {"next_attempt_at": database_now() + milliseconds(delay)}
        died = {"died_at": database_now()} if values["status"] == DEAD else {}
        tried: dict[str, Any] = {}
        if values.get("attempts") and values.get("error_type"):
            now = (await connection.execute(select(NOW))).scalar_one()
            tried["history"] = failed(begun(None, values["attempts"], now), now, values)
        await connection.execute(insert(self._parked).values(**values, **due, **died, **tried))

    async def blocks(
        self, connection: AsyncConnection, subscriber_id: str, key: str, *, skips_dead: bool = False
    ) -> bool:
        """Whether an earlier delivery of this key is parked, so that later ones have to wait behind it."""
        row = self._parked.c
        in_the_way = row.status.in_(_IN_THE_WAY[skips_dead])
        found = await connection.scalar(
            select(literal(1)).where(row.subscriber_id == subscriber_id, row.partition_key == key, in_the_way).limit(1)
        )
        return found is not None

    async def blocked_keys(
        self, connection: AsyncConnection, subscriber_id: str, keys: Collection[str], *, skips_dead: bool = False
    ) -> set[str]:
        """Those of the keys of which an earlier delivery is parked, so that later ones have to wait behind it."""
        row = self._parked.c
        found = await connection.scalars(
            select(row.partition_key)
            .distinct()
            .where(
                row.subscriber_id == subscriber_id,
                row.partition_key.in_(list(keys)),
                row.status.in_(_IN_THE_WAY[skips_dead]),
            )
        )
        return set(found)

    async def skipped(
        self, connection: AsyncConnection, subscriber_id: str, keys: Collection[str], before: int | None = None
    ) -> Mapping[str | None, Sequence[UUID]]:
        """By key, the events that later ones go on without, the oldest first; `before` is a later one's position."""
        row, skipped = self._parked.c, defaultdict[str | None, list[UUID]](list)
        number = func.row_number().over(partition_by=row.partition_key, order_by=row.position)
        parked = select(row.partition_key, row.event_id, number.label("number")).where(
            row.subscriber_id == subscriber_id,
            row.partition_key.in_(list(keys)),
            # Also what is replayed at this moment: it was not handled before the later one.
            row.status.in_(_IN_THE_WAY[False]),
            *([] if before is None else [row.position < before]),
        )
        one = parked.subquery().c
        found = select(one.partition_key, one.event_id).where(one.number <= MOST_SKIPPED).order_by(one.number)
        for key, event_id in await connection.execute(found):
            skipped[key].append(event_id)
        return skipped

    async def due(
        self, at_most: int, *, subscribers: Collection[str], without_positions: Collection[int]
    ) -> Sequence[RowMapping]:
        """Deliveries to these subscribers whose next attempt is due, the longest waiting first."""
        row = self._parked.c
        async with self._database.read() as connection:
            result = await connection.execute(
                select(self._parked)
                .where(
                    row.status == RETRY,
                    row.next_attempt_at <= database_now(),
                    row.position.not_in(list(without_positions)),
                    row.subscriber_id.in_(list(subscribers)),
                )
                .order_by(row.next_attempt_at, row.position)
                .limit(at_most)
                # Whatever is locked is being handled: its handler's transaction deletes it.
                .with_for_update(skip_locked=True)
            )
            return result.mappings().all()

    async def next_due_in(
        self, *, subscribers: Collection[str], without_positions: Collection[int]
    ) -> timedelta | None:
        """How long until another attempt becomes due; None when none is planned."""
        row = self._parked.c
        async with self._database.read() as connection:
            wait = await connection.scalar(
                select(func.min(row.next_attempt_at) - database_now()).where(
                    row.status == RETRY,
                    row.next_attempt_at > database_now(),
                    row.position.not_in(list(without_positions)),
                    row.subscriber_id.in_(list(subscribers)),
                )
            )
        return None if wait is None else timedelta(milliseconds=max(0, int(wait)))

    async def claim(self, position: int, attempts: int, delay: timedelta) -> bool:
        """Count an attempt before it runs, so that one which kills the process is counted too; False when it runs."""
        async with self._database.begin() as connection:
            free = self._tried(position, attempts).with_for_update(skip_locked=True)
            if (tried := (await connection.execute(free)).first()) is None:
                return False
            return await self._change(
                connection,
                self._at(position, attempts),
                attempts=attempts + 1,
                history=begun(tried.history, attempts + 1, tried.now),
                next_attempt_at=database_now() + milliseconds(delay),
                reason=RUNNING,
            )

    async def unclaim(self, position: int, attempts: int) -> None:
        """Take a counted attempt back: it was interrupted by the shutdown, not by a fault."""
        async with self._database.begin() as connection:
            if (tried := (await connection.execute(self._tried(position, attempts))).first()) is None:
                return
            await self._change(
                connection,
                self._at(position, attempts),
                attempts=attempts - 1,
                history=taken_back(tried.history),
                next_attempt_at=database_now(),
                reason="interrupted",
            )

    async def finish(self, connection: AsyncConnection, position: int, attempts: int) -> bool:
        """Remove a delivery in the transaction of its handler; False when another run was faster."""
        result = await connection.execute(delete(self._parked).where(*self._at(position, attempts)))
        return cast("CursorResult[Any]", result).rowcount == 1

    async def fail(self, position: int, attempts: int, delay: timedelta, facts: Mapping[str, Any]) -> bool:
        """Record why an attempt failed, and when the next one is due."""
        due_at = database_now() + milliseconds(delay)
        return await self._fail(position, attempts, facts, next_attempt_at=due_at)

    async def die(self, position: int, attempts: int, facts: Mapping[str, Any], *, skips_dead: bool = False) -> bool:
        """Give a delivery up: from now on it waits for a person, and what is behind it goes on if it is skipped."""
        dead = {"status": DEAD, "next_attempt_at": None, "died_at": database_now()}
        return await self._fail(position, attempts, facts, skips_dead=skips_dead, **dead)

    async def _fail(
        self, position: int, attempts: int, facts: Mapping[str, Any], *, skips_dead: bool = False, **values: Any
    ) -> bool:
        async with self._database.begin() as connection:
            if (tried := (await connection.execute(self._tried(position, attempts))).first()) is None:
                return False
            history = failed(tried.history, tried.now, facts)
            where = self._at(position, attempts)
            has_failed = await self._change(connection, where, history=history, **facts, **values)
            if skips_dead and tried.partition_key is not None:
                await self.release_next(connection, tried.subscriber_id, tried.partition_key, skips_dead=True)
            return has_failed

    async def release_next(
        self, connection: AsyncConnection, subscriber_id: str, key: str, *, skips_dead: bool = False
    ) -> None:
        """Let the oldest blocked delivery of a key go, unless an earlier one still stands in its way."""
        row = self._parked.c
        of_key = (row.subscriber_id == subscriber_id, row.partition_key == key)
        status = await connection.execute(
            select(row.position, row.status)
            .where(*of_key, row.status.in_(_IN_THE_WAY[skips_dead]))
            .order_by(row.position)
            .limit(1)
        )
        first = status.first()
        if first is not None and first.status == BLOCKED:
            await self._let_go(connection, [first.position])

    async def release_first(self, keys: Iterable[tuple[str, str]], skipping: Collection[str] = ()) -> None:
        """The same for many pairs of a subscriber and a key, in transactions of its own; `skipping` skip the dead."""
        row, of_subscribers = self._parked.c, defaultdict[str, list[str]](list)
        for subscriber_id, key in sorted(keys):
            of_subscribers[subscriber_id].append(key)
        for subscriber_id, every in of_subscribers.items():
            for start in range(0, len(every), _KEYS_AT_ONCE):
                some = row.partition_key.in_(every[start : start + _KEYS_AT_ONCE])
                of_subscriber, skips_dead = row.subscriber_id == subscriber_id, subscriber_id in skipping
                await self._release(self._first_of_keys(of_subscriber, some, skips_dead=skips_dead))

    async def release_orphans(
        self, subscribers: Collection[str], at_most: int = 1_000, *, skips_dead: bool = False
    ) -> int:
        """Let blocked deliveries go that nothing stands in the way of; gives their number.

        One may have been parked behind another in the moment in which that one was handled, or died, elsewhere.
        """
        of_subscribers = self._parked.c.subscriber_id.in_(list(subscribers))
        return await self._release(self._first_of_keys(of_subscribers, skips_dead=skips_dead).limit(at_most))

    async def unblock(self, subscriber_id: str, at_most: int = 1_000) -> None:
        """Let everything go that waits behind its key, for a subscriber that keeps no order any more."""
        row = self._parked.c
        waiting = select(row.position).where(row.subscriber_id == subscriber_id, row.status == BLOCKED)
        while await self._release(waiting.limit(at_most)):
            pass

    async def _release(self, chosen: Select[Any]) -> int:
        """Let blocked deliveries go; gives their number.

        By their positions, in order: a change that finds its rows by another index locks what retries change meanwhile
        in the other direction, which MariaDB ends as a deadlock.
        """
        async with self._database.read() as connection:
            positions = sorted((await connection.execute(chosen)).scalars())
        if positions:
            async with self._database.begin() as connection:
                await self._let_go(connection, positions)
        return len(positions)

    async def _let_go(self, connection: AsyncConnection, positions: Sequence[int]) -> None:
        row = self._parked.c
        released = update(self._parked).where(row.position.in_(positions), row.status == BLOCKED)
        # What is replayed at a rate has its moment already.
        due_at = case((row.next_attempt_at > database_now(), row.next_attempt_at), else_=database_now())
        await connection.execute(released.values(status=RETRY, next_attempt_at=due_at))

    def _first_of_keys(self, *conditions: ColumnElement[bool], skips_dead: bool) -> Select[Any]:
        """What is blocked although it is the first of its key."""
        row = self._parked.c
        # In one pass: to ask of every blocked row what is before it takes PostgreSQL the square.
        first = (
            select(func.min(row.position).label("position"))
            .where(*conditions, row.status.in_(_IN_THE_WAY[skips_dead]))
            .group_by(row.subscriber_id, row.partition_key)
            .subquery()
        )
        return select(row.position).join(first, first.c.position == row.position).where(row.status == BLOCKED)

    async def rename_subscriber(self, before: str, after: str) -> None:
        """Hand what is parked for a former id to the new one; its inbox rows are known under both.

        What is parked under both ids already is one delivery: the new id's stays. Several processes may do it at once.
        """
        inbox, parked = self._database.tables.inbox, self._parked.c
        former = inbox.alias("former")
        rows = (
            select(literal(after), former.c.event_id, former.c.payload_hash, former.c.processed_at)
            .where(
                former.c.subscriber_id == before,
                former.c.event_id.in_(select(parked.event_id).where(parked.subscriber_id == before)),
            )
            # In one order, so that two processes do not wait for each other crosswise.
            .order_by(former.c.event_id)
        )
        # A table of its own to MySQL, which does not delete from one that it reads.
        known = select(parked.event_id).where(parked.subscriber_id == after).subquery()
        async with self._database.begin() as connection:
            await connection.execute(self._insert_missing(inbox, rows))
            twice = (parked.subscriber_id == before, parked.event_id.in_(select(known.c.event_id)))
            await connection.execute(delete(self._parked).where(*twice))
            await connection.execute(
                update(self._parked).where(parked.subscriber_id == before).values(subscriber_id=after)
            )

    def _insert_missing(self, table: Table, rows: Select[Any]) -> Any:
        names = [column.name for column in table.c]
        if self._database.dialect in MYSQL:
            same = {names[0]: table.c[names[0]]}
            return mysql.insert(table).from_select(names, rows).on_duplicate_key_update(same)
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        return insert(table).from_select(names, rows).on_conflict_do_nothing()

    async def counts(self, connection: AsyncConnection) -> Mapping[tuple[str, str], int]:
        """How many deliveries are parked, by subscriber and status."""
        row = self._parked.c
        rows = await connection.execute(
            select(row.subscriber_id, row.status, func.count()).group_by(row.subscriber_id, row.status)
        )
        return {(subscriber_id, status): count for subscriber_id, status, count in rows}

    def _tried(self, position: int, attempts: int) -> Select[Any]:
        """What was tried so far and whose it is, and the database's clock."""
        row = self._parked.c
        return select(row.history, row.subscriber_id, row.partition_key, NOW).where(*self._at(position, attempts))

    def _at(self, position: int, attempts: int) -> tuple[ColumnElement[bool], ...]:
        row = self._parked.c
        return (row.position == position, row.status == RETRY, row.attempts == attempts)

    async def _change(self, connection: AsyncConnection, where: Sequence[ColumnElement[bool]], **values: Any) -> bool:
        result = await connection.execute(update(self._parked).where(*where).values(**values))
        return cast("CursorResult[Any]", result).rowcount == 1
