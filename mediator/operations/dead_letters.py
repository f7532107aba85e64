"""Dead letters: deliveries that are no longer tried, and what a person can do about them.

    letters = await app.dead_letters.list()
    await app.dead_letters.replay(letters[0].position)          after the cause is removed
    await app.dead_letters.replay_group(letters[0].fingerprint)

A replay goes to the one subscriber that failed; handlers that succeeded are not touched. Everything is recorded in the
audit trail, in the transaction of the deed.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import partition_key_of
from mediator.clock import Runtime
from mediator.errors import OperationRefusedError, UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received
from mediator.messaging.cloudevents import from_headers, to_headers
from mediator.messaging.envelope import Envelope, headers_column
from mediator.messaging.limits import Limits
from mediator.operations import audit as trail
from mediator.storage.columns import database_now
from mediator.storage.database import Database
from mediator.storage.inbox import InboxTable
from mediator.storage.outbox import OutboxInsert, slot_of
from mediator.storage.parked import DEAD, DISCARDED, RETRY, SENDING_SIDE, ParkedTable

__all__ = ["DeadLetter", "DeadLetterGroup", "DeadLetters"]

# A statement has at most 32,767 parameters on PostgreSQL, and not many more on SQLite.
_POSITIONS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery that waits for a person."""

    position: int
    """Names it in every operation."""
    subscriber_id: str
    event_id: UUID
    status: Literal["dead", "discarded"]
    reason: str
    attempts: int
    parked_at: datetime
    died_at: datetime
    """When it died, or was discarded or restored since: what `RetentionSettings` counts from."""
    topic: str
    partition_key: str | None
    headers: Mapping[str, str]
    body: bytes
    correlation_id: str | None
    error_type: str | None
    error: str | None
    traceback: str | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters with equal errors at one subscriber."""

    fingerprint: str
    subscriber_id: str
    error_type: str
    error: str
    count: int


class DeadLetters:
    """The dead letters of one database."""

    def __init__(
        self,
        database: Database,
        catalog: EventCatalog,
        limits: Limits,
        runtime: Runtime,
        horizon: timedelta,
        wake: Callable[[], None],
        refuse_inside: Callable[[str], None],
        *,
        allow_edit: bool,
    ) -> None:
        self._database, self._catalog, self._limits = database, catalog, limits
        self._runtime, self._horizon, self._allow_edit, self._wake = runtime, horizon, allow_edit, wake
        self._refuse_inside = refuse_inside
        self._parked, self._inbox = ParkedTable(database), InboxTable(database.tables)

    async def list(
        self,
        *,
        subscriber_id: str | None = None,
        fingerprint: str | None = None,
        event_id: UUID | None = None,
        status: Literal["dead", "discarded"] = "dead",
        limit: int = 100,
    ) -> Sequence[DeadLetter]:
        """Dead letters, oldest first."""
        row = self._database.tables.parked.c
        conditions: list[ColumnElement[bool]] = [row.status == status]
        for column, value in (
            (row.subscriber_id, subscriber_id),
            (row.fingerprint, fingerprint),
            (row.event_id, event_id),
        ):
            if value is not None:
                conditions.append(column == value)
        return [_letter(found) for found in await self._parked.find(*conditions, limit=limit)]

    async def groups(self) -> Sequence[DeadLetterGroup]:
        """Equal errors together, the most frequent first."""
        groups: dict[tuple[str, str], list[RowMapping]] = {}
        for row in await self._parked.find(self._database.tables.parked.c.status == DEAD):
            groups.setdefault((row["fingerprint"] or "", row["subscriber_id"]), []).append(row)
        found = [
            DeadLetterGroup(fingerprint, subscriber_id, rows[0]["error_type"] or "", rows[0]["error"] or "", len(rows))
            for (fingerprint, subscriber_id), rows in groups.items()
        ]
        return sorted(found, key=lambda group: (-group.count, group.subscriber_id, group.fingerprint))

    async def replay(
        self, *positions: int, actor: str = "application", reason: str | None = None, force: bool = False
    ) -> int:
        """Hand dead letters to their handlers again, all or none of them; gives their number."""
        self._refuse_inside("dead_letters.replay()")
        async with self._database.begin() as connection:
            rows = await self._chosen(connection, "replay", positions, DEAD)
            for row in rows:
                await self._replay(connection, row, actor, reason, force=force)
        self._wake()
        return len(rows)

    async def replay_group(
        self, fingerprint: str, *, actor: str = "application", reason: str | None = None, force: bool = False
    ) -> int:
        """Replay every dead letter with this fingerprint; gives their number."""
        letters = await self.list(fingerprint=fingerprint, limit=1_000_000)
        return await self.replay(*(letter.position for letter in letters), actor=actor, reason=reason, force=force)

    async def discard(self, *positions: int, reason: str, actor: str = "application") -> int:
        """Decide that nothing more is done about these; they can be restored. What waits behind them goes on."""
        self._refuse_inside("dead_letters.discard()")
        async with self._database.begin() as connection:
            rows = await self._chosen(connection, "discard", positions, DEAD)
            for row in rows:
                await self._decide(connection, row["position"], DEAD, DISCARDED)
                if row["partition_key"] is not None:
                    await self._parked.release_next(connection, row["subscriber_id"], row["partition_key"])
                await self._record(connection, "discard", row, actor, reason)
        self._wake()
        return len(rows)

    async def restore(self, *positions: int, actor: str = "application", reason: str | None = None) -> int:
        """Take a discard back: they are dead letters again."""
        self._refuse_inside("dead_letters.restore()")
        async with self._database.begin() as connection:
            rows = await self._chosen(connection, "restore", positions, DISCARDED)
            for row in rows:
                await self._decide(connection, row["position"], DISCARDED, DEAD)
                await self._record(connection, "restore", row, actor, reason)
        return len(rows)

    async def edit_and_replay(
        self, position: int, changes: Mapping[str, Any], *, reason: str, actor: str = "application"
    ) -> UUID:
        """Replay a dead letter with other values, as a new event whose header `edited-from` names the old one.

        The result is validated against its contract first. Gives the new event id. Refused unless the application
        allows it (`MediatorSettings(allow_edited_replay=True)`): it lets a person write what a publisher said.
        """
        self._refuse_inside("dead_letters.edit_and_replay()")
        if not self._allow_edit:
            raise OperationRefusedError(
                "edit and replay", f"dead letter {position}", "it is switched off", "Set allow_edited_replay=True"
            )
        async with self._database.begin() as connection:
            (row,) = await self._chosen(connection, "edit and replay", [position], DEAD)
            received = self._edited(row, changes)
            envelope = received.envelope
            await self._inbox.claim(connection, row["subscriber_id"], (), envelope.event_id, received.payload_hash)
            kept = {name: row[name] for name in ("subscriber_id", "topic", "partition_key", "correlation_id")}
            await self._parked.park(
                connection,
                {
                    **kept,
                    "event_id": envelope.event_id,
                    "status": RETRY,
                    "reason": "edited",
                    "headers": json.dumps(to_headers(envelope)),
                    "body": envelope.body,
                },
                delay=timedelta(0),
            )
            await self._decide(connection, position, DEAD, DISCARDED)
            await self._record(connection, "edit and replay", row, actor, reason, detail=str(envelope.event_id))
        self._wake()
        return envelope.event_id

    async def audit(self, limit: int = 100) -> Sequence[trail.AuditEntry]:
        """What operators did, newest first."""
        async with self._database.read() as connection:
            return await trail.entries(connection, self._database.tables, limit)

    async def bury_unsent(self, connection: AsyncConnection, row: RowMapping, facts: Mapping[str, Any]) -> UUID:
        """Store an outbox row that cannot be sent, in the transaction that removes it; gives its id here."""
        identity: UUID = row["event_id"]
        try:
            headers = to_headers(Envelope.from_row(row))
        except ValueError:
            # Somebody wrote to the table: kept as it is, for a person to look at.
            headers = {"unreadable": row["headers"]}
        parked = self._database.tables.parked.c
        known = (parked.subscriber_id == SENDING_SIDE, parked.event_id == identity)
        if await self._parked.find(*known, limit=1, connection=connection):
            # The same event was published, and died, before: keep this one too.
            identity = self._runtime.new_id()
        values = {
            "subscriber_id": SENDING_SIDE,
            "event_id": identity,
            "status": DEAD,
            "reason": "not sent",
            **{name: row[name] for name in ("topic", "partition_key", "body", "correlation_id")},
            "headers": json.dumps(headers),
            **facts,
        }
        await self._parked.park(connection, values)
        return identity

    async def _chosen(
        self, connection: AsyncConnection, action: str, positions: Iterable[int], status: str
    ) -> Sequence[RowMapping]:
        row, wanted = self._database.tables.parked.c, sorted(set(positions))
        found: list[RowMapping] = []
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = row.position.in_(wanted[start : start + _POSITIONS_AT_ONCE])
            found.extend(await self._parked.find(some, row.status == status, connection=connection))
        if missing := set(wanted) - {one["position"] for one in found}:
            raise OperationRefusedError(
                action,
                f"dead letter {', '.join(map(str, sorted(missing)))}",
                f"there is none with the status {status!r}",
                "It may have been replayed or discarded meanwhile: list them again",
            )
        return found

    async def _decide(self, connection: AsyncConnection, position: int, before: str, after: str) -> None:
        # Its age counts from now: cleaning would remove an old letter before a person can think again.
        await self._parked.set_status(connection, position, before, after, died_at=database_now())

    async def _replay(
        self, connection: AsyncConnection, row: RowMapping, actor: str, reason: str | None, *, force: bool
    ) -> None:
        self._runtime.reached("replay.midway")
        age = self._runtime.now() - row["parked_at"]
        if age > self._horizon and not force:
            raise OperationRefusedError(
                "replay",
                f"dead letter {row['position']}",
                f"it is {age.days} days old and deduplication reaches back {self._horizon.days} days",
                "Make sure that its effect did not happen meanwhile, then use force=True",
            )
        if row["subscriber_id"] == SENDING_SIDE:
            await self._send_again(connection, row)
        else:
            await self._parked.set_status(
                connection, row["position"], DEAD, RETRY, attempts=0, next_attempt_at=row["parked_at"], died_at=None
            )
        await self._record(connection, "replay", row, actor, reason)

    async def _send_again(self, connection: AsyncConnection, row: RowMapping) -> None:
        try:
            envelope = from_headers(row["topic"], json.loads(row["headers"]), bytes(row["body"]))
        except UnreadableMessageError as error:
            raise OperationRefusedError(
                "replay", f"dead letter {row['position']}", str(error), "Discard it and publish the event anew"
            ) from error
        values = {
            "slot": slot_of(envelope.key, envelope.event_id),
            "event_id": envelope.event_id,
            "topic": envelope.topic,
            "type": envelope.type,
            "version": envelope.version,
            "partition_key": envelope.key,
            "body": envelope.body,
            "headers": headers_column(envelope.headers, envelope.callback),
            "source": envelope.source,
            "occurred_on": envelope.occurred_on,
            "delay": None,
            "at": None,
            "attempts": 0,
            "correlation_id": envelope.correlation_id,
            "causation_id": envelope.causation_id,
            "traceparent": envelope.traceparent,
            "module": envelope.source.rsplit("/", 1)[-1],
            "cause": "replay",
        }
        await OutboxInsert(self._database.tables).execute(connection, [values])
        await connection.execute(
            self._database.tables.parked.delete().where(self._database.tables.parked.c.position == row["position"])
        )

    def _edited(self, row: RowMapping, changes: Mapping[str, Any]) -> Received:
        if row["subscriber_id"].startswith("@"):
            raise OperationRefusedError(
                "edit and replay",
                f"dead letter {row['position']}",
                f"it belongs to {row['subscriber_id']}, not to a handler",
                "Replay it as it is, or publish a new event",
            )
        before = from_headers(row["topic"], json.loads(row["headers"]), bytes(row["body"]))
        identity = self._runtime.new_id()
        try:
            data = {**json.loads(before.body), **changes, "event_id": str(identity)}
            after = Envelope(
                event_id=identity,
                topic=before.topic,
                type=before.type,
                version=before.version,
                body=json.dumps(data, allow_nan=False).encode(),
                occurred_on=before.occurred_on,
                source=before.source,
                key=before.key,
                correlation_id=before.correlation_id,
                causation_id=before.causation_id,
                traceparent=before.traceparent,
                callback=before.callback,
                headers={**before.headers, "edited-from": str(before.event_id)},
            )
            received = Received(after, self._catalog, self._limits)
        except (UnreadableMessageError, ValueError, TypeError) as error:
            raise OperationRefusedError(
                "edit and replay", f"dead letter {row['position']}", str(error), "Give values that the contract allows"
            ) from error
        event = received.as_class(received.entry.event_class)
        unknown = set(changes) - set(type(event).model_fields)
        key = partition_key_of(event)
        if unknown or (key is not None and key != before.key):
            why = f"the contract has no {', '.join(sorted(unknown))}" if unknown else "its partition key would change"
            raise OperationRefusedError(
                "edit and replay", f"dead letter {row['position']}", why, "Change other values, or publish a new event"
            )
        return received

    async def _record(
        self,
        connection: AsyncConnection,
        action: str,
        row: RowMapping,
        actor: str,
        reason: str | None,
        detail: str | None = None,
    ) -> None:
        subject = f"{row['subscriber_id']} {row['event_id']}"
        await trail.record(
            connection, self._database.tables, actor=actor, action=action, subject=subject, reason=reason, detail=detail
        )


def _letter(row: RowMapping) -> DeadLetter:
    names = DeadLetter.__dataclass_fields__
    return DeadLetter(**{**{name: row[name] for name in names}, "headers": json.loads(row["headers"])})
