"""Locks on keys, held by a transaction: at most one unit of work at a time has a key, over all processes.

    SQLite          one transaction writes at a time anyway
    PostgreSQL      advisory locks of the transaction
    MariaDB, MySQL  the row of the key in the table `locks`, locked; rows are made when they are first needed

They end with the transaction, however it ends: by its commit, so that whoever comes next sees what it did, or with the
process. Keys are taken in sorted order, so that two units of work which want the same keys do not wait for each other
crosswise.

The server is asked again and again instead of being left to wait: a task that is cancelled leaves no statement behind
which goes on waiting, with the locks that its transaction has already.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import literal, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import LockTimeoutError, UsageError
from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.postgresql import lock_number

__all__ = ["KeyLocks"]

_TRY_NUMBER = text("SELECT pg_try_advisory_xact_lock(:number)")
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.1


class KeyLocks:
    """The locks of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, connection: AsyncConnection, keys: Iterable[str], timeout: timedelta) -> None:
        """Take all keys in the transaction of `connection`; raises LockTimeoutError after `timeout` for one of them.

        Raises UsageError for what is no key.
        """
        wanted = sorted(set(map(_checked, keys)))
        if self._database.dialect == "postgresql":
            take = self._take_number
        elif self._database.dialect in MYSQL:
            take = self._take_row
        else:
            return
        for key in wanted:
            clock, pause = asyncio.get_running_loop().time, _SHORTEST_PAUSE_SECONDS
            end = clock() + timeout.total_seconds()
            while not await take(connection, key):
                if (left := end - clock()) <= 0:
                    raise LockTimeoutError(key, timeout)
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _take_number(self, connection: AsyncConnection, key: str) -> bool:
        number = lock_number("key", self._database.tables.place, key)
        return bool(await connection.scalar(_TRY_NUMBER, {"number": number}))

    async def _take_row(self, connection: AsyncConnection, key: str) -> bool:
        locks = self._database.tables.locks
        name = sha256(key.encode()).hexdigest()
        row = select(locks.c.name).where(locks.c.name == name)
        free_row = row.with_for_update(skip_locked=True)
        if await connection.scalar(free_row):
            return True
        if await connection.scalar(row):
            return False
        # In a transaction of its own: of several that insert the same new row, InnoDB kills all but one. And only when
        # it is not there by now: whoever inserts a row that is there waits for the one who has locked it.
        missing = select(literal(name)).where(~row.exists())
        async with self._database.begin() as own:
            await own.execute(mysql.insert(locks).prefix_with("IGNORE").from_select([locks.c.name], missing))
        return bool(await connection.scalar(free_row))


def _checked(key: object) -> str:
    if isinstance(key, str):
        with suppress(UnicodeEncodeError):
            key.encode()
            return key
    raise UsageError(
        f"cannot lock {key!r}: a key is a text that can be written as UTF-8. Give the keys as a list of texts"
    )
