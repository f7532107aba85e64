"""Doing something to letters: to those that are named, all or none; to a selection, batch by batch.

A batch is one transaction: its letters are locked, asked whether they are still as they were selected, changed, and
written to the audit trail. A selection does not wait for what somebody else has locked. What ends the process between
two batches leaves each letter either done or untouched; doing the selection once more then does the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import OperationRefusedError
from mediator.operations.letters import DeadLetterOutcome, DeadLetterSelection
from mediator.storage.database import Database
from mediator.storage.dead_letters import DeadLetterTable

__all__ = ["Deed", "Refusal", "all_or_none", "in_batches"]

_BATCH = 200
_PATIENCE_SECONDS, _AGAIN_SECONDS = 5.0, 0.05
_CHANGED = "it was replayed, decided on or removed meanwhile"
_GONE = "It may have been replayed or discarded meanwhile: list them again"
_HELD = "somebody else is doing something to it", "Try again when that is done"


class Refusal(NamedTuple):
    """Why a letter is left alone."""

    why: str
    fix: str


Deed: TypeAlias = Callable[[AsyncConnection, Sequence[RowMapping]], Awaitable[Mapping[int, Refusal]]]
"""What is done to locked letters, at most 200 at once; gives those that it left alone."""


async def all_or_none(database: Database, action: str, positions: Collection[int], status: str, deed: Deed) -> int:
    """Do it to these letters in one transaction; gives their number, or raises OperationRefusedError.

    What somebody else has locked for a moment is asked for again, in a new transaction each time.
    """
    table, clock = DeadLetterTable(database), asyncio.get_running_loop().time
    end = clock() + _PATIENCE_SECONDS
    while True:
        async with database.begin() as connection:
            rows = await table.lock(connection, positions, status)
            if missing := set(positions) - {row["position"] for row in rows}:
                held = await table.having(connection, missing, status)
            else:
                for start in range(0, len(rows), _BATCH):
                    for position, refusal in (await deed(connection, rows[start : start + _BATCH])).items():
                        raise OperationRefusedError(action, f"dead letter {position}", refusal.why, refusal.fix)
                return len(rows)
        if missing == held and clock() < end:
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        gone = ", ".join(map(str, sorted(missing - held or held)))
        why, fix = _HELD if missing == held else (f"there is none with the status {status!r}", _GONE)
        raise OperationRefusedError(action, f"dead letter {gone}", why, fix)


async def in_batches(database: Database, selection: DeadLetterSelection, deed: Deed) -> DeadLetterOutcome:
    """Do it to those letters of a selection that are still as they were, 200 in a transaction."""
    table, done, skipped = DeadLetterTable(database), 0, dict[int, str]()
    for start in range(0, len(selection), _BATCH):
        batch = dict(selection.letters[start : start + _BATCH])
        async with database.begin() as connection:
            locked = await table.lock(connection, batch, selection.status)
            rows = [row for row in locked if row["died_at"] == batch[row["position"]]]
            refused = await deed(connection, rows)
        done += len(rows) - len(refused)
        unchanged = {row["position"] for row in rows}
        skipped.update((position, _CHANGED) for position in batch if position not in unchanged)
        skipped.update((position, refusal.why) for position, refusal in refused.items())
    return DeadLetterOutcome(done, skipped)
