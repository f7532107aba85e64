"""Doing something to letters: to those that are named, all or none; to a selection, batch by batch.

A batch is one transaction: its letters are locked, asked whether they are still as they were selected, changed, and
written to the audit trail. Nothing waits for what somebody else has locked. What ends the process between two batches
leaves each letter either done or untouched; doing the selection once more then does the rest.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import OperationRefusedError
from mediator.operations.letters import DeadLetterOutcome, DeadLetterSelection
from mediator.storage.database import Database
from mediator.storage.dead_letters import DeadLetterTable

__all__ = ["Deed", "Refusal", "all_or_none", "chosen", "in_batches"]

_BATCH = 200
# A statement has at most 32,767 parameters on PostgreSQL, and not many more on SQLite.
_POSITIONS_AT_ONCE = 1_000
_CHANGED = "it was replayed, decided on or removed meanwhile"


class Refusal(NamedTuple):
    """Why a letter is left alone."""

    why: str
    fix: str


Deed: TypeAlias = Callable[[AsyncConnection, Sequence[RowMapping]], Awaitable[Mapping[int, Refusal]]]
"""What is done to locked letters, at most 200 at once; gives those that it left alone."""


async def all_or_none(database: Database, action: str, positions: Collection[int], status: str, deed: Deed) -> int:
    """Do it to these letters in one transaction; gives their number, or raises OperationRefusedError."""
    async with database.begin() as connection:
        rows = await chosen(database, connection, action, positions, status)
        for start in range(0, len(rows), _BATCH):
            for position, refusal in (await deed(connection, rows[start : start + _BATCH])).items():
                raise OperationRefusedError(action, f"dead letter {position}", refusal.why, refusal.fix)
    return len(rows)


async def chosen(
    database: Database, connection: AsyncConnection, action: str, positions: Collection[int], status: str
) -> Sequence[RowMapping]:
    """Lock all of these letters; raises OperationRefusedError that names those which do not have the status."""
    table, wanted = DeadLetterTable(database), sorted(set(positions))
    found: list[RowMapping] = []
    for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
        found.extend(await table.lock(connection, wanted[start : start + _POSITIONS_AT_ONCE], status))
    if missing := set(wanted) - {one["position"] for one in found}:
        raise OperationRefusedError(
            action,
            f"dead letter {', '.join(map(str, sorted(missing)))}",
            f"there is none with the status {status!r}",
            "It may have been replayed or discarded meanwhile: list them again",
        )
    return found


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
