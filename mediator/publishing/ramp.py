"""The ramp: a row whose hand-over kills the process is found alone, and its neighbours do not die with it.

After a start, and with slots that were another relay's, the batches grow from one row to the full size. Until they
have, an attempt is recorded before rows are handed over, and taken back when the row was not at fault. So a row that
has attempts was handed over before without an outcome: it is a suspect, and goes alone.
"""

from collections.abc import Collection, Sequence

from sqlalchemy.engine import RowMapping

from mediator.storage.outbox import Key, OutboxTable, key_of

__all__ = ["Ramp"]


class Ramp:
    """How many rows a relay hands over at once, and which of them have an attempt recorded."""

    def __init__(self, outbox: OutboxTable, full: int) -> None:
        self._outbox, self._full = outbox, full
        self.size = 1
        self._recorded: set[Key] = set()
        self._owed: list[Key] = []

    @property
    def is_over(self) -> bool:
        """Whether the batches have their full size: nothing in the backlog kills the process."""
        return self.size == self._full

    def begin(self) -> None:
        """Start with one row again."""
        self.size = 1

    def grow(self) -> None:
        """The rows of a batch did no harm."""
        self.size = min(self.size * 2, self._full)

    def end(self) -> None:
        """There is no backlog any more."""
        self.size = self._full

    @staticmethod
    def one_suspect(rows: Sequence[RowMapping]) -> Sequence[RowMapping]:
        """The first rows of a batch: those before its first suspect, or only that one."""
        suspects = [number for number, row in enumerate(rows) if row["attempts"]]
        return rows[: suspects[0] or 1] if suspects else rows

    async def record(self, rows: Collection[RowMapping]) -> None:
        """Count an attempt of each before it is handed over."""
        keys = [key_of(row) for row in rows]
        await self._outbox.record_attempts(keys)
        self._recorded.update(keys)

    def forget(self, key: Key) -> None:
        """What was recorded of this row stays, or went with it."""
        self._recorded.discard(key)

    async def take_back(self, keys: Collection[Key] | None = None) -> None:
        """Take back what was recorded of these rows, or of all: they were not at fault."""
        recorded = self._recorded.intersection(self._recorded if keys is None else keys)
        self._recorded -= recorded
        self._owed.extend(recorded)
        await self.pay()

    async def pay(self) -> None:
        """Take back what could not be taken back before, because the database was away."""
        owed, self._owed = self._owed, []
        if not owed:
            return
        try:
            await self._outbox.record_attempts(owed, change=-1)
        except BaseException:
            self._owed.extend(owed)
            raise
