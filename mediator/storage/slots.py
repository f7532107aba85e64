"""Who relays: ownership of slots by a lock that dies with its holder.

SQLite has one writer, so one relay at a time takes all slots, by a lock on a file beside the database. The operating
system frees it the moment its holder dies.
"""

from filelock import FileLock, Timeout

from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS

__all__ = ["SlotLocks"]


class SlotLocks:
    """The slots of one database that this process owns."""

    def __init__(self, database: Database) -> None:
        file = database.file
        path = None if file is None else file.with_name(f"{file.name}.relay.lock")
        self._lock = None if path is None else FileLock(path, timeout=0, thread_local=False)

    def acquire(self) -> frozenset[int]:
        """Try to own slots, without waiting; gives those that are owned now."""
        if self._lock is not None and not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                return frozenset()
        return frozenset(range(SLOTS))

    def release(self) -> None:
        """Give all slots up."""
        if self._lock is not None:
            self._lock.release()
