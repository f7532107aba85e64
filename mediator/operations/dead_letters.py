"""Dead letters: deliveries that are no longer tried, and what a person can do about them.

    letters = await app.dead_letters.list()
    await app.dead_letters.replay(letters[0].position)          after the cause is removed
    await app.dead_letters.replay_group(letters[0].fingerprint)

    selection = await app.dead_letters.select(module="mail", died_from=yesterday)
    await app.dead_letters.replay(selection, per_second=50)

A replay goes to the one subscriber that failed; handlers that succeeded are not touched. Everything is recorded in the
audit trail, in the transaction of the deed.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack, overload
from uuid import UUID

from sqlalchemy import ColumnElement
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.clock import Runtime
from mediator.errors import OperationRefusedError
from mediator.messaging.limits import Limits
from mediator.messaging.registry import Registry
from mediator.operations import audit as trail
from mediator.operations.editing import edited, edited_row
from mediator.operations.letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterOutcome,
    DeadLetterPurge,
    DeadLetterSelection,
    DeadStatus,
    conditions,
    letter_of,
)
from mediator.operations.replaying import Replay, interval, too_old
from mediator.operations.selections import Deed, Refusal, all_or_none, in_batches
from mediator.operations.unsent import send_again
from mediator.storage.database import Database
from mediator.storage.dead_letters import DeadLetterTable
from mediator.storage.inbox import InboxTable
from mediator.storage.parked import DEAD, DISCARDED, SENDING_SIDE, ParkedTable

__all__ = ["DeadLetter", "DeadLetterGroup", "DeadLetters"]


class DeadLetters:
    """The dead letters of one database."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        limits: Limits,
        runtime: Runtime,
        horizon: timedelta,
        wake: Callable[[], None],
        refuse_inside: Callable[[str], None],
        *,
        allow_edit: bool,
    ) -> None:
        self._database, self._registry, self._limits = database, registry, limits
        self._runtime, self._horizon, self._allow_edit, self._wake = runtime, horizon, allow_edit, wake
        self._refuse_inside = refuse_inside
        self._letters, self._parked = DeadLetterTable(database), ParkedTable(database)

    async def list(
        self, *, status: DeadStatus = "dead", after: int = 0, limit: int = 100, **filters: Unpack[DeadLetterFilter]
    ) -> Sequence[DeadLetter]:
        """Dead letters that have all these values, oldest first; `after` is the last position of the page before."""
        found = self._conditions(status, filters)
        next_page = self._database.tables.parked.c.position > after
        return [letter_of(row, self._registry) for row in await self._letters.find(*found, next_page, limit=limit)]

    async def groups(self, **filters: Unpack[DeadLetterFilter]) -> Sequence[DeadLetterGroup]:
        """Equal errors together, the most frequent first."""
        return [
            DeadLetterGroup(
                row["fingerprint"] or "",
                row["subscriber_id"],
                row["error_type"] or "",
                row["error"] or "",
                row["count"],
            )
            for row in await self._letters.groups(*self._conditions("dead", filters))
        ]

    async def select(
        self, *, status: DeadStatus = "dead", limit: int | None = None, **filters: Unpack[DeadLetterFilter]
    ) -> DeadLetterSelection:
        """The letters that have all these values, as they are now: for `replay`, `discard`, `restore` and `purge`."""
        states = await self._letters.states(*self._conditions(status, filters), limit=limit)
        return DeadLetterSelection(status, tuple(states))

    @overload
    async def replay(
        self,
        selection: DeadLetterSelection,
        /,
        *,
        per_second: float | None = None,
        actor: str = "application",
        reason: str | None = None,
        force: bool = False,
    ) -> DeadLetterOutcome: ...
    @overload
    async def replay(
        self, *positions: int, actor: str = "application", reason: str | None = None, force: bool = False
    ) -> int: ...
    async def replay(
        self,
        *letters: Any,
        per_second: float | None = None,
        actor: str = "application",
        reason: str | None = None,
        force: bool = False,
    ) -> Any:
        """Hand dead letters to their handlers again: those at some positions, all or none of them, or a selection.

        `per_second` spreads a selection over time. Its letters of one key follow one another where a handler keeps
        order; one that is named by its position goes at once, whatever it overtakes. Gives their number, of a selection
        the outcome.
        """
        waiting = set[tuple[str, str]]()
        is_selection = any(isinstance(one, DeadLetterSelection) for one in letters)
        ordered = {entry.id for entry in self._registry.subscribers if entry.ordering == "key"}
        replay = Replay(
            self._database,
            self._runtime,
            horizon=None if force else self._horizon,
            in_order=ordered if is_selection else (),
            every=interval(per_second),
            waiting=waiting,
        )
        return await self._do("replay", letters, DEAD, self._recorded(replay, "replay", actor, reason), waiting)

    async def replay_group(
        self,
        fingerprint: str,
        *,
        per_second: float | None = None,
        actor: str = "application",
        reason: str | None = None,
        force: bool = False,
    ) -> int:
        """Replay every dead letter with this fingerprint; gives their number."""
        self._refuse_inside("dead_letters.replay()")
        found = self._conditions("dead", {"fingerprint": fingerprint})
        if not force:
            now = self._runtime.now()
            beyond = self._database.tables.parked.c.parked_at < now - self._horizon
            for row in await self._letters.find(*found, beyond, limit=1):
                refusal = too_old(row, now, self._horizon)
                raise OperationRefusedError("replay", f"dead letter {row['position']}", refusal.why, refusal.fix)
        selection = DeadLetterSelection("dead", tuple(await self._letters.states(*found)))
        outcome = await self.replay(selection, per_second=per_second, actor=actor, reason=reason, force=force)
        return outcome.done

    @overload
    async def discard(
        self, selection: DeadLetterSelection, /, *, reason: str, actor: str = "application"
    ) -> DeadLetterOutcome: ...
    @overload
    async def discard(self, *positions: int, reason: str, actor: str = "application") -> int: ...
    async def discard(self, *letters: Any, reason: str, actor: str = "application") -> Any:
        """Decide that nothing more is done about these; they can be restored. What waits behind them goes on."""

        behind = set[tuple[str, str]]()

        async def discard(connection: AsyncConnection, rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
            await self._letters.decide(connection, [row["position"] for row in rows], DISCARDED)
            behind.update(_keys_of(rows))
            return {}

        return await self._do("discard", letters, DEAD, self._recorded(discard, "discard", actor, reason), behind)

    @overload
    async def restore(
        self, selection: DeadLetterSelection, /, *, actor: str = "application", reason: str | None = None
    ) -> DeadLetterOutcome: ...
    @overload
    async def restore(self, *positions: int, actor: str = "application", reason: str | None = None) -> int: ...
    async def restore(self, *letters: Any, actor: str = "application", reason: str | None = None) -> Any:
        """Take a discard back: they are dead letters again."""

        async def restore(connection: AsyncConnection, rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
            await self._letters.decide(connection, [row["position"] for row in rows], DEAD)
            return {}

        return await self._do("restore", letters, DISCARDED, self._recorded(restore, "restore", actor, reason))

    async def purge(
        self, selection: DeadLetterSelection, *, reason: str, actor: str = "application", dry_run: bool = True
    ) -> DeadLetterPurge:
        """Remove letters for ever, dead or discarded ones; with `dry_run` only tell what would go.

        What waits behind them goes on. Their events stay handled for deduplication, as long as the inbox reaches back.
        """
        found, behind = deque[tuple[str, datetime]](), set[tuple[str, str]]()

        async def purge(connection: AsyncConnection, rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
            found.extend((row["subscriber_id"], row["died_at"]) for row in rows)
            if not dry_run:
                await self._letters.remove(connection, [row["position"] for row in rows])
                behind.update(_keys_of(rows))
            return {}

        deed = purge if dry_run else self._recorded(purge, "purge", actor, reason)
        outcome = await self._do("purge", [selection], selection.status, deed, behind)
        return DeadLetterPurge(
            dry_run=dry_run,
            count=outcome.done,
            oldest=min((died_at for _, died_at in found), default=None),
            by_subscriber=Counter(subscriber_id for subscriber_id, _ in found),
            skipped=outcome.skipped,
        )

    async def edit_and_replay(
        self, position: int, changes: Mapping[str, Any], *, reason: str, actor: str = "application"
    ) -> UUID:
        """Replay a dead letter with other values, as a new event whose header `edited-from` names the old one.

        The result is validated against its contract first. Gives the new event id. Refused unless the application
        allows it (`MediatorSettings(allow_edited_replay=True)`): it lets a person write what a publisher said.
        """
        if not self._allow_edit:
            raise OperationRefusedError(
                "edit and replay", f"dead letter {position}", "it is switched off", "Set allow_edited_replay=True"
            )
        identity = self._runtime.new_id()

        async def replace(connection: AsyncConnection, _rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
            (row,) = await self._letters.whole(connection, [position])
            received = edited(row, changes, identity, self._registry.catalog, self._limits)
            if row["subscriber_id"] == SENDING_SIDE:
                await send_again(self._database, connection, [(received.envelope, None)])
            else:
                inbox = InboxTable(self._database.tables)
                await inbox.claim(connection, row["subscriber_id"], (), identity, received.payload_hash)
                await self._parked.park(connection, edited_row(row, received), delay=timedelta(0))
            await self._letters.decide(connection, [position], DISCARDED)
            return {}

        deed = self._recorded(replace, "edit and replay", actor, reason, detail=str(identity))
        await self._do("edit and replay", (position,), DEAD, deed)
        return identity

    async def audit(self, limit: int = 100) -> Sequence[trail.AuditEntry]:
        """What operators did, newest first."""
        async with self._database.read() as connection:
            return await trail.entries(connection, self._database.tables, limit)

    def _conditions(self, status: DeadStatus, filters: DeadLetterFilter) -> Sequence[ColumnElement[bool]]:
        return conditions(self._database.tables.parked, self._registry, status, filters)

    async def _do(
        self, action: str, letters: Sequence[Any], status: str, deed: Deed, behind: Collection[tuple[str, str]] = ()
    ) -> Any:
        """`behind` are the keys in which something may go on afterwards."""
        self._refuse_inside(f"dead_letters.{action.replace(' ', '_')}()")
        outcome: int | DeadLetterOutcome
        match letters:
            case [DeadLetterSelection() as selection] if selection.status == status:
                outcome = await in_batches(self._database, selection, deed)
            case [DeadLetterSelection() as selection]:
                why = f"it holds letters with the status {selection.status!r}"
                fix = f"Select some with select(status={status!r})"
                raise OperationRefusedError(action, "a selection", why, fix)
            case _:
                outcome = await all_or_none(self._database, action, letters, status, deed)
        # Once for all of them: a key may have many letters. If the process ends before, the sweep lets them go.
        skipping = {subscriber_id for subscriber_id, _ in behind if self._registry.skips_dead(subscriber_id)}
        await self._parked.release_first(behind, skipping)
        self._wake()
        return outcome

    def _recorded(self, deed: Deed, action: str, actor: str, reason: str | None, detail: str | None = None) -> Deed:
        async def recorded(connection: AsyncConnection, rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
            refused = await deed(connection, rows)
            done = (row for row in rows if row["position"] not in refused)
            subjects = [f"{row['subscriber_id']} {row['event_id']}" for row in done]
            await trail.record_each(
                connection, self._database.tables, subjects, actor=actor, action=action, reason=reason, detail=detail
            )
            return refused

        return recorded


def _keys_of(rows: Iterable[RowMapping]) -> Iterable[tuple[str, str]]:
    """Subscribers and keys in which letters may stand in the way of others."""
    return ((row["subscriber_id"], row["partition_key"]) for row in rows if row["partition_key"] is not None)
