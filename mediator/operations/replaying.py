"""A replay: letters get their attempts from the start, or go back into the outbox.

At a rate, each letter gets a moment of its own in the database, so that the rate holds over all processes and survives
a restart. Where order is kept, the letters of a key wait for one another: they join what waits for that key already.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.clock import Runtime
from mediator.errors import SettingsError
from mediator.messaging.envelope import Envelope
from mediator.operations.selections import Refusal
from mediator.operations.unsent import envelope_of, send_again
from mediator.storage.database import Database
from mediator.storage.dead_letters import DeadLetterTable
from mediator.storage.parked import BLOCKED, RETRY, SENDING_SIDE

__all__ = ["Replay", "interval", "too_old"]


_SLOWEST, _FASTEST = 0.001, 1_000_000


def interval(per_second: float | None) -> timedelta | None:
    """How long after one letter the next one is due; raises SettingsError for a rate that cannot be meant."""
    if per_second is None:
        return None
    if not _SLOWEST <= per_second <= _FASTEST:
        raise SettingsError("per_second", per_second, f"use a number from {_SLOWEST} to {_FASTEST:,}")
    return timedelta(seconds=1 / per_second)


def too_old(row: RowMapping, now: datetime, horizon: timedelta) -> Refusal:
    """What is said of a letter from beyond the horizon: nobody knows whether its event was handled meanwhile."""
    return Refusal(
        f"it is {(now - row['parked_at']).days} days old and deduplication reaches back {horizon.days} days",
        "Make sure that its effect did not happen meanwhile, then use force=True",
    )


class Replay:
    """Replays locked letters; those that are too old or unreadable are left alone."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        *,
        horizon: timedelta | None,
        in_order: Collection[str],
        every: timedelta | None,
        waiting: set[tuple[str, str]],
    ) -> None:
        """`horizon` is None to force it, `in_order` names the subscribers whose keys keep their order.

        Adds to `waiting` the subscribers and keys whose first letter has to be let go in the end.
        """
        self._database, self._runtime, self._horizon = database, runtime, horizon
        self._in_order, self._every, self._number = in_order, every, 0
        self._letters, self._waiting = DeadLetterTable(database), waiting

    async def __call__(self, connection: AsyncConnection, rows: Sequence[RowMapping]) -> Mapping[int, Refusal]:
        """Gives the letters that are left alone, and why."""
        refused = self._too_old(rows)
        envelopes = await self._envelopes(connection, [row for row in rows if row["position"] not in refused], refused)
        now = await self._letters.now(connection)
        outbox: list[tuple[Envelope, timedelta | None]] = []
        plan: list[Mapping[str, Any]] = []
        for row in rows:
            if (position := row["position"]) in refused:
                continue
            delay = self._next_delay()
            if position in envelopes:
                outbox.append((envelopes[position], delay))
                continue
            status = RETRY
            if row["subscriber_id"] in self._in_order and row["partition_key"] is not None:
                status = BLOCKED
                self._waiting.add((row["subscriber_id"], row["partition_key"]))
            due_at = row["parked_at"] if delay is None else now + delay
            plan.append({"at_position": position, "to_status": status, "due_at": due_at})
        await send_again(self._database, connection, outbox)
        await self._letters.remove(connection, list(envelopes))
        await self._letters.try_again(connection, plan)
        self._runtime.reached("replay.midway")
        return refused

    def _next_delay(self) -> timedelta | None:
        if self._every is None:
            return None
        self._number += 1
        return self._every * (self._number - 1)

    def _too_old(self, rows: Sequence[RowMapping]) -> dict[int, Refusal]:
        if (horizon := self._horizon) is None:
            return {}
        now = self._runtime.now()
        return {row["position"]: too_old(row, now, horizon) for row in rows if now - row["parked_at"] > horizon}

    async def _envelopes(
        self, connection: AsyncConnection, rows: Sequence[RowMapping], refused: dict[int, Refusal]
    ) -> Mapping[int, Envelope]:
        """What goes back into the outbox, by position; adds to `refused` what nobody can read."""
        unsent = [row["position"] for row in rows if row["subscriber_id"] == SENDING_SIDE]
        envelopes: dict[int, Envelope] = {}
        for row in await self._letters.whole(connection, unsent):
            if isinstance(envelope := envelope_of(row), Envelope):
                envelopes[row["position"]] = envelope
            else:
                refused[row["position"]] = Refusal(envelope, "Discard it and publish the event anew")
        return envelopes
