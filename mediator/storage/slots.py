"""Who does what: ownership of shares by locks that die with their holder.

    SQLite          a lock on a file beside the database: one holder at a time has everything
    PostgreSQL      advisory locks          } held on one connection that serves nothing else,
    MariaDB, MySQL  GET_LOCK                } so that the server frees them the moment it is gone

Relays share the slots of an outbox so, and the processes of a consumer group its lanes.

The server also frees them when nothing was heard of their holder for ten seconds, as of a machine that lost its power,
or a process that was stopped: it looks several times a second as long as it lives.

No leader, no table, no lease. On a server everybody first takes a seat, the lowest number that is
free; whoever sits on the n-th of k taken seats has the slots n, n + k, n + 2k, ... So they agree on who should have
what by looking at the seats alone. One gives up what is not its own as soon as nothing of it is in flight, and
takes what is its own as soon as it is free: with a killed one's seat, its slots are shared out among the others at
their next look.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar

import structlog
from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import DatabaseUnavailableError
from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.engines import brief, is_transient
from mediator.storage.outbox import SLOTS
from mediator.storage.postgresql import lock_number

__all__ = ["SEATS", "FileLocks", "LockSession", "ServerLocks", "SlotLocks", "slot_locks", "verify_slot_locks"]

T = TypeVar("T")

log = structlog.get_logger(__name__)
_SILENCE_SECONDS = 10
SEATS = 64
"""How many share an outbox, or a group; more of them wait for a seat."""


class SlotLocks(Protocol):
    """The slots of one database that this process owns."""

    async def acquire(self, busy: Collection[int]) -> frozenset[int]:
        """Look who is there, give up and take what that asks for, without waiting; gives the slots to relay now.

        The lock of a slot that is `busy` (something of it is in flight) is kept until it no longer is, although
        nothing more of it is to be relayed.
        """
        ...

    async def leave(self, busy: Collection[int]) -> None:
        """Relay no more: give up what is not busy, so that others need not wait for the rest to end."""
        ...

    async def release(self) -> None:
        """Give all slots up."""
        ...


def slot_locks(
    database: Database, what: str = "relay", count: int = SLOTS, session: "LockSession | None" = None
) -> SlotLocks:
    """The locks that this database offers for so many slots; those of one session share its connection."""
    if database.dialect == "sqlite":
        return FileLocks(database, what, count)
    return ServerLocks(database, what, count, session)


async def verify_slot_locks(database: Database) -> None:
    """Raise DatabaseUnavailableError when a relay here could never own a slot."""
    locks = slot_locks(database)
    if isinstance(locks, FileLocks):
        try:
            await locks.acquire(())
        except OSError as error:
            why = f"the relay's lock file {locks.file} cannot be locked: {error.strerror or error}"
            fix = "Check its owner and its permissions, or remove it while no relay runs"
            raise DatabaseUnavailableError(database.name, why, fix) from error
        finally:
            await locks.release()


class FileLocks:
    """All slots or none, by a lock on a file; without a file all slots, because nobody else can be there."""

    def __init__(self, database: Database, what: str = "relay", count: int = SLOTS) -> None:
        file = database.file
        self.file = None if file is None else file.with_name(f"{file.name}.{database.tables.prefix}{what}.lock")
        self._lock = None if self.file is None else FileLock(self.file, timeout=0, thread_local=False)
        self._everything = frozenset(range(count))

    async def acquire(self, busy: Collection[int]) -> frozenset[int]:  # noqa: ARG002
        """Try to own everything."""
        if self._lock is not None and not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                return frozenset()
        return self._everything

    async def leave(self, busy: Collection[int]) -> None:
        """All slots or none."""
        if not busy:
            await self.release()

    async def release(self) -> None:
        """Give all slots up."""
        if self._lock is not None:
            self._lock.release()


class LockSession:
    """A connection that serves nothing but locks: they go with it, and it goes with its process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: AsyncConnection | None = None
        self._stack = AsyncExitStack()
        self._using = asyncio.Lock()
        self._is_cut_off = False
        self.names: _Names = _MysqlNames() if database.dialect in MYSQL else _PostgresqlNames()
        self.number = 0
        """Counts the connections: what was locked on an earlier one is lost."""

    @property
    def is_connected(self) -> bool:
        """Whether there can be locks."""
        return self._connection is not None

    async def use(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T | None:
        """What `work` gives; None when the connection was lost, and all locks with it."""
        async with self._using:
            try:
                return await work(await self._connected())
            except BaseException as error:
                # The locks went with the connection, or go now.
                await self._disconnect()
                if not is_transient(error):
                    raise
                if not self._is_cut_off:
                    log.warning("locks.lost", database=self._database.name, error=brief(error))
                self._is_cut_off = True
                return None

    async def close(self) -> None:
        """Give everything up."""
        async with self._using:
            await self._disconnect()

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            connection = await self._stack.enter_async_context(self._database.dedicated())
            await self.names.die_in_silence(connection)
            self._connection = connection
            self._is_cut_off = False
            self.number += 1
        return self._connection

    async def _disconnect(self) -> None:
        self._connection = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


class ServerLocks:
    """Slots and a seat, by locks of the database server."""

    def __init__(
        self, database: Database, what: str = "relay", count: int = SLOTS, session: LockSession | None = None
    ) -> None:
        self._session = LockSession(database) if session is None else session
        self._is_alone = session is None
        self._names, self._count = self._session.names, count
        self._place = lock_number(what, database.tables.place)
        self._owned: set[int] = set()
        self._seat: int | None = None
        self._of_connection = 0

    async def acquire(self, busy: Collection[int]) -> frozenset[int]:
        """Own what is due here."""
        return frozenset(await self._session.use(lambda connection: self._share(connection, busy)) or ())

    async def leave(self, busy: Collection[int]) -> None:
        """Give up the seat, and the slots that are not busy."""
        if self._session.is_connected:
            await self._session.use(lambda connection: self._leave(connection, busy))

    async def release(self) -> None:
        """Give everything up, by closing the connection if nobody else has locks on it."""
        if self._is_alone:
            await self._session.close()
        else:
            await self.leave(())

    async def _share(self, connection: AsyncConnection, busy: Collection[int]) -> set[int]:
        self._forget_what_was_lost()
        taken = await self._names.taken(connection, self._place, [self._count + seat for seat in range(SEATS)])
        if self._seat is None:
            self._seat = await self._take_seat(connection, taken)
            if self._seat is None:
                return set()
            taken = {*taken, self._count + self._seat}
        seats = sorted(number - self._count for number in taken)
        mine = set(range(seats.index(self._seat), self._count, len(seats)))
        for slot in self._owned - mine - set(busy):
            await self._names.unlock(connection, self._place, slot)
            self._owned.discard(slot)
        for slot in sorted(mine - self._owned):
            if await self._names.lock(connection, self._place, slot):
                self._owned.add(slot)
        return self._owned & mine

    async def _leave(self, connection: AsyncConnection, busy: Collection[int]) -> None:
        self._forget_what_was_lost()
        seat = [] if self._seat is None else [self._count + self._seat]
        for number in [*seat, *(self._owned - set(busy))]:
            await self._names.unlock(connection, self._place, number)
            self._owned.discard(number)
        self._seat = None

    def _forget_what_was_lost(self) -> None:
        if self._of_connection != self._session.number:
            self._of_connection, self._seat = self._session.number, None
            self._owned.clear()

    async def _take_seat(self, connection: AsyncConnection, taken: Collection[int]) -> int | None:
        for seat in range(SEATS):
            if self._count + seat not in taken and await self._names.lock(connection, self._place, self._count + seat):
                return seat
        return None


class _Names(Protocol):
    """How a server names a lock: by a place of eight bytes, and a slot or a seat."""

    async def die_in_silence(self, connection: AsyncConnection) -> None: ...

    async def taken(self, connection: AsyncConnection, place: int, numbers: Collection[int]) -> set[int]: ...

    async def lock(self, connection: AsyncConnection, place: int, number: int) -> bool: ...

    async def unlock(self, connection: AsyncConnection, place: int, number: int) -> None: ...


class _PostgresqlNames:
    """Advisory locks; their two numbers, of four bytes each, are the place, and slot or seat."""

    async def die_in_silence(self, connection: AsyncConnection) -> None:
        await connection.execute(text(f"SET tcp_keepalives_idle = {_SILENCE_SECONDS // 2}"))
        await connection.execute(text("SET tcp_keepalives_interval = 1"))
        await connection.execute(text(f"SET tcp_keepalives_count = {_SILENCE_SECONDS // 2}"))
        if (connection.dialect.server_version_info or (0,)) >= (14,):
            await connection.execute(text(f"SET idle_session_timeout = '{_SILENCE_SECONDS}s'"))

    async def taken(self, connection: AsyncConnection, place: int, numbers: Collection[int]) -> set[int]:
        found = await connection.execute(
            text(
                "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid::bigint = :place"
            ),
            {"place": (place >> 32) % 2**32},
        )
        return set(found.scalars()) & set(numbers)

    async def lock(self, connection: AsyncConnection, place: int, number: int) -> bool:
        statement = text("SELECT pg_try_advisory_lock(CAST(:place AS INTEGER), CAST(:number AS INTEGER))")
        return bool(await connection.scalar(statement, {"place": place >> 32, "number": number}))

    async def unlock(self, connection: AsyncConnection, place: int, number: int) -> None:
        statement = text("SELECT pg_advisory_unlock(CAST(:place AS INTEGER), CAST(:number AS INTEGER))")
        await connection.execute(statement, {"place": place >> 32, "number": number})


class _MysqlNames:
    """Named locks of the server, at most 64 characters long."""

    async def die_in_silence(self, connection: AsyncConnection) -> None:
        await connection.execute(text(f"SET SESSION wait_timeout = {_SILENCE_SECONDS}"))

    async def taken(self, connection: AsyncConnection, place: int, numbers: Collection[int]) -> set[int]:
        looks = ", ".join(f"IS_USED_LOCK('{_named(place, number)}')" for number in numbers)
        holders = (await connection.execute(text(f"SELECT {looks}"))).one()
        return {number for number, holder in zip(numbers, holders, strict=True) if holder is not None}

    async def lock(self, connection: AsyncConnection, place: int, number: int) -> bool:
        statement = text("SELECT GET_LOCK(:name, 0)")
        return bool(await connection.scalar(statement, {"name": _named(place, number)}))

    async def unlock(self, connection: AsyncConnection, place: int, number: int) -> None:
        await connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _named(place, number)})


def _named(place: int, number: int) -> str:
    return f"mediator:{place % 2**64:016x}:{number}"
