"""The writers' journal: what they intended and what they were told, on disk before they go on.

    intended   about to be sent          acked   committed, said the toolkit          failed   rolled back, it said

An intent that is neither acked nor failed is unknown: its process died, and it may have been committed or not.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Intent", "Journal", "read_journal"]


@dataclass(frozen=True)
class Intent:
    """A transfer that somebody wants."""

    transfer_id: str
    account: str
    amount: int


class Journal:
    """Appends lines and syncs each."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "journal.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, what: str, intent: Intent) -> None:
        """`what` is intended, acked or failed."""
        self._file.write(json.dumps({"what": what, **asdict(intent)}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_journal(folder: Path) -> dict[Intent, str]:
    """The last that is known of each intent: acked, failed, or intended."""
    known: dict[Intent, str] = {}
    path = folder / "journal.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        entry = json.loads(line)
        what = entry.pop("what")
        known[Intent(**entry)] = what
    return known
