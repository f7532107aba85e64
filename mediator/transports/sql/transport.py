"""sql://: the database carries the events. What most applications begin with.

    sql://                                         the application's own database, that of its first module
    sql+postgresql+asyncpg://user@host/events      another one, which several applications may share

An envelope is confirmed when the transaction has committed that inserts a row for each group that listens
(storage/deliveries.py); a group's row goes when it is settled. Which groups listen is read in the same transaction
(storage/routes.py). Who reads a lane is told of rows there: in this process directly, in others by a notification
after the commit on PostgreSQL, and by looking elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from hashlib import blake2b
from typing import Self

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from mediator.errors import (
    BrokerError,
    DatabaseUnavailableError,
    Fault,
    OperationRefusedError,
    SchemaError,
    SettingsError,
    TransportUnavailableError,
)
from mediator.messaging.envelope import Envelope
from mediator.messaging.patterns import listens
from mediator.messaging.supervision import ended, keep_running
from mediator.messaging.transport import Capabilities, Health, Subscription
from mediator.storage.database import Database
from mediator.storage.deliveries import GroupDeliveries, remove_deliveries, waiting_deliveries
from mediator.storage.engines import brief, is_transient
from mediator.storage.notifications import Notifier, told_slots
from mediator.storage.routes import Heard, Routes, RoutesTable
from mediator.storage.schema import create_schema, verify_schema
from mediator.transports.sql.address import read_url
from mediator.transports.sql.line import NAME, Line
from mediator.transports.sql.publishing import Outcomes, Publisher
from mediator.transports.sql.subscription import SqlSubscription

__all__ = ["SqlTransport"]

_PUBLISH_SECONDS, _LOOK_SECONDS, _PROVISION_SECONDS = 10.0, 5.0, 30.0
_CLOSE_SECONDS = 2.0
_POLL_SECONDS, _TOLD_POLL_SECONDS = 0.5, 1.0
_BATCH = 1_000
_LONGEST_GROUP = 200
_ABOUT = "deliveries"
_PROMISED = {
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "sql_mode",
}


class SqlTransport:
    """Carries events in the tables of a database."""

    name = NAME

    def __init__(self, database: Database, *, lanes: int = 16, is_own: bool = False) -> None:
        """`is_own` is a database that nobody else opens, and whose tables nobody else makes."""
        self.database, self.is_own = database, is_own
        self.capabilities = Capabilities(durable=True, ordered=True, wildcards=True, lanes=lanes)
        self._line, self._routes = Line(database.name), RoutesTable(database)
        self._publisher = Publisher(database, self._routes, self._written)
        self._subscriptions: set[SqlSubscription] = set()
        self._publications: set[asyncio.Task[Outcomes]] = set()
        self._notifier = Notifier(database, _ABOUT) if database.dialect == "postgresql" else None
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False

    @classmethod
    def from_url(cls, url: str, application: Database | None = None) -> Self:
        """The transport that `url` names; `sql://` means the database of the `application`. Raises SettingsError."""
        database, lanes = read_url(url)
        if database is not None:
            return cls(database, lanes=lanes, is_own=True)
        if application is None:
            fix = "it is the application's own database, and there is no application: write sql+sqlite+aiosqlite:///..."
            raise SettingsError("transport", f"{NAME}://", fix)
        return cls(application, lanes=lanes)

    def __repr__(self) -> str:
        return f"SqlTransport({self.database.name!r})"

    async def open(self) -> None:
        """Connect; the application's own database is open already."""
        if self.is_own:
            try:
                await self.database.open()
            except DatabaseUnavailableError as error:
                await self.database.close()
                raise BrokerError(self.name, f"{error.database}: {error.why}", error.fix) from error
        self._open = True
        if self._notifier is not None:
            self._start("sql.notifier", self._notifier.run)

    async def close(self) -> None:
        """What is being published has a moment to be committed; what is not ends as unavailable."""
        self._open = False
        for subscription in list(self._subscriptions):
            await subscription.close()
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)
        self._tasks.clear()
        await ended(list(self._publications), _CLOSE_SECONDS)
        if self.is_own:
            await self.database.close()

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Add what is missing to the routes; in a database of its own, make or upgrade the tables as well."""
        wanted = {_stored(group): heard for group, heard in groups.items()}
        if self.is_own:
            await self._prepare(topics, wanted, create=create)
        if create:
            lanes = self.capabilities.lanes
            routes = await self._looked(lambda: self._routes.add(topics, wanted, lanes), _PROVISION_SECONDS)
        else:
            routes = await self._looked(self._read_routes)
        self._check_routes(routes, topics, wanted)

    async def check(self) -> Sequence[Fault]:
        """Settings of the server under which what was confirmed may be lost."""
        return [
            Fault("broker", one.setting, f"it is {one.value}: {one.consequence}", "Change it on the server")
            for one in self.database.weaknesses
            if one.setting in _PROMISED
        ]

    async def health(self) -> Health:
        """One statement, there and back."""
        clock = asyncio.get_running_loop().time
        begun, detail = clock(), "" if self._open else "closed"
        if self._open:
            try:
                await self._line.insist(self._ping, _LOOK_SECONDS)
            except TransportUnavailableError as error:
                detail = error.why
        return Health(not detail, timedelta(seconds=clock() - begun), detail)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """All that nothing is wrong with in one transaction; outcomes are known when it has committed."""
        if not self._open:
            for envelope in batch:
                yield envelope, TransportUnavailableError(self.name, "closed")
            return
        publication = asyncio.create_task(self._outcomes(batch), name="sql.publish")
        self._publications.add(publication)
        publication.add_done_callback(self._publications.discard)
        try:
            await asyncio.wait([publication], timeout=_PUBLISH_SECONDS)
        except asyncio.CancelledError:
            publication.cancel()
            raise
        if publication.done() and not publication.cancelled():
            for outcome in publication.result():
                yield outcome
            return
        # Without an answer in time, it has two seconds of its own to close the connection: nobody waits for that.
        why = "closed" if publication.done() else f"the database did not answer within {_PUBLISH_SECONDS:g} s"
        unavailable = TransportUnavailableError(self.name, why)
        for envelope in batch:
            yield envelope, unavailable

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Join `group`; nothing comes before it takes lanes."""
        stored = _stored(group)
        await self._expect(stored, topics)
        if self._notifier is not None and len(self._tasks) == 1:
            self._start("sql.listener", self._listen)
        subscription = SqlSubscription(
            stored,
            GroupDeliveries(self.database, stored),
            self._line,
            prefetch,
            _POLL_SECONDS if self._notifier is None else _TOLD_POLL_SECONDS,
            lambda more: self._expect(stored, more),
            self._subscriptions.discard,
        )
        self._subscriptions.add(subscription)
        return subscription

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """The rows that there are for each group."""
        stored = {group: _stored(group) for group in groups}
        try:
            found = await self._line.insist(
                lambda: waiting_deliveries(self.database, list(stored.values())), _LOOK_SECONDS
            )
        except SQLAlchemyError as error:
            raise TransportUnavailableError(self.name, brief(error)) from error
        return {group: found.get(name, 0) for group, name in stored.items()}

    async def forget(self, group: str) -> int:
        """Give a group up that nobody reads any more, with all that waits for it; gives the number of deliveries.

        When a process that has it starts, it is there again, and gets what is published from then on.
        """
        stored, removed = _stored(group), 0
        if any(one.group == stored for one in self._subscriptions):
            fix = "Remove the module first, or call it from a process that does not consume for it"
            raise OperationRefusedError("forget", group, "it is read in this process", fix)
        known = await self._routes.remove(stored)
        while rows := await remove_deliveries(self.database, stored, _BATCH):
            removed += rows
        if not known and not removed:
            raise OperationRefusedError("forget", group, "there is no such group", "Look into the table of the routes")
        return removed

    def _start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(keep_running(name, loop, is_outage=is_transient), name=name)
        self._tasks.append(task)

    async def _listen(self) -> None:
        async with aclosing(told_slots(self.database, _ABOUT)) as told:
            async for lanes in told:
                for subscription in self._subscriptions:
                    # Whatever was told before, this process did not hear.
                    subscription.wake(lanes or set(subscription.lanes))

    def _written(self, written: Mapping[str, Collection[int]]) -> None:
        """Rows were committed to these lanes of groups."""
        elsewhere: set[int] = set()
        for group, lanes in written.items():
            mine = [subscription for subscription in self._subscriptions if subscription.group == group]
            for subscription in mine:
                subscription.wake(lanes)
            elsewhere.update(set(lanes).difference(*(subscription.lanes for subscription in mine)))
        if self._notifier is not None:
            self._notifier.tell(elsewhere)

    async def _outcomes(self, batch: Sequence[Envelope]) -> Outcomes:
        try:
            return await self._line.within(self._publisher.publish(batch), _PUBLISH_SECONDS)
        except TransportUnavailableError as error:
            unavailable = error
        except SQLAlchemyError as error:
            # Nothing of it is the envelopes' fault: tables that are missing, a disk that is full.
            unavailable = TransportUnavailableError(self.name, brief(error))
        return [(envelope, unavailable) for envelope in batch]

    async def _ping(self) -> None:
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def _prepare(self, topics: Collection[str], groups: Heard, *, create: bool) -> None:
        try:
            await (create_schema(self.database) if create else verify_schema(self.database))
        except SchemaError as error:
            what, fix = f"{error.database}: {error.what}", error.fix
            if not create:
                what += f", and with them {', '.join([*sorted(topics), *sorted(groups)])}"
                fix = 'Start once with BrokerSettings(provision="create")'
            raise BrokerError(self.name, what, fix) from error
        except DatabaseUnavailableError as error:
            raise BrokerError(self.name, f"{error.database}: {error.why}", error.fix) from error

    async def _read_routes(self) -> Routes:
        async with self.database.read() as connection:
            return await self._routes.current(connection)

    async def _looked(self, look: Callable[[], Awaitable[Routes]], seconds: float = _LOOK_SECONDS) -> Routes:
        try:
            return await self._line.insist(look, seconds)
        except TransportUnavailableError as error:
            raise BrokerError(self.name, f"{self.database.name}: {error.why}", "Start again when it answers") from error
        except SQLAlchemyError as error:
            fix = 'Make the tables: MediatorApp(schema="create"), or the statements of app.ddl()'
            raise BrokerError(self.name, f"{self.database.name}: {brief(error)}", fix) from error

    async def _expect(self, group: str, topics: Collection[str]) -> None:
        """Raise BrokerError unless a group is there as it is needed here."""
        self._check_routes(await self._looked(self._read_routes), (), {group: topics})

    def _check_routes(self, routes: Routes, topics: Collection[str], groups: Heard) -> None:
        lanes = self.capabilities.lanes
        for group in groups:
            if routes.lanes.get(group, lanes) != lanes:
                what = f"the group {group} has {routes.lanes[group]} lanes, and this process was told {lanes}"
                fix = f"Write {NAME}://?lanes={routes.lanes[group]}; to have others, see docs/how-to/sql-transport.md"
                raise BrokerError(self.name, what, fix)
        new_topics, lacking = routes.missing(topics, groups)
        missing = [f"topic {topic}" for topic in sorted(new_topics)]
        for group in sorted(lacking):
            if group not in routes.lanes:
                missing.append(f"group {group}")
                continue
            heard = routes.heard.get(group, ())
            missing += [f"what leads {group} to {one}" for one in sorted(lacking[group]) if not listens(heard, one)]
        if missing:
            fix = 'Start once with BrokerSettings(provision="create")'
            raise BrokerError(self.name, f"missing: {', '.join(missing)}", fix)


def _stored(group: str) -> str:
    """A group's name as it fits into its column."""
    if len(group) <= _LONGEST_GROUP:
        return group
    return f"{group[: _LONGEST_GROUP - 17]}-{blake2b(group.encode(), digest_size=8).hexdigest()}"
