"""The unit of work: one transaction, the change and what it publishes.

    async with unit_of_work:
        body
        loop:  flush; take the recorded domain events, in the order they were recorded; none left → leave the loop
               for each: its handlers, one after the other, in this session; then its converters
        flush                  aggregates first: their row locks are taken before an outbox row gets its position
        insert outbox rows     one statement, last
        commit, shielded       cancelled while committing → the outcome is awaited
    after the commit: the relay is woken

Everything that is left to chance elsewhere is decided here: a handler cannot commit, a second task is refused, events
of what was rolled back are forgotten, and a task that was cancelled does not commit even if its handler hid that.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from types import TracebackType
from typing import Any, Self, TypeAlias
from uuid import UUID

import structlog
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSessionTransaction
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator.application import MessageContext, Outgoing, Publishable, PublishingMiddleware
from mediator.application.converters import outgoing_of
from mediator.clock import Runtime
from mediator.domain import AggregateRoot
from mediator.domain.aggregates import forget_events, recording_mark, take_events
from mediator.errors import (
    CommitOutcomeUnknownError,
    ConcurrentUseError,
    DomainEventOverflowError,
    NestedCommandFailedError,
    OtherDatabaseError,
    UnitOfWorkClosedError,
    UnitOfWorkRequiredError,
    UsageError,
)
from mediator.messaging.handling import Build
from mediator.messaging.lineage import Lineage, current_lineage, in_lineage
from mediator.messaging.supervision import shielded
from mediator.publishing.dispatcher import DomainEventDispatcher, RaisedEvent
from mediator.publishing.outbox import Origin, OutboxWriter, check_time
from mediator.publishing.session import open_session
from mediator.storage.database import Database
from mediator.storage.engines import SESSION, ServerSession, brief, was_cut_off
from mediator.storage.locks import KeyLocks
from mediator.storage.outcome import was_committed
from mediator.storage.scheduled import Schedule

__all__ = [
    "MAX_DEPTH",
    "MAX_EVENTS",
    "SqlUnitOfWork",
    "UnitOfWorkServices",
    "current_unit_of_work",
    "join_unit_of_work",
    "shielded",
]

_Proceed: TypeAlias = Callable[[Outgoing[Any]], None]
log = structlog.get_logger(__name__)
_COMMIT_SECONDS = 30
MAX_DEPTH = 16
"""How many domain events may lead to one another in a unit of work."""
MAX_EVENTS = 1_000
"""How many domain events one unit of work may have."""


@dataclass(frozen=True, slots=True)
class UnitOfWorkServices:
    """What units of work on one database share."""

    database: Database
    dispatcher: DomainEventDispatcher
    outbox: OutboxWriter
    runtime: Runtime
    wake_relay: Callable[[Collection[int]], None]
    keeps_history: bool
    locks: KeyLocks
    schedule: Schedule
    middleware: Sequence[Build]
    """What stands around publishing, the outermost first."""


class SqlUnitOfWork:
    """A transaction on one database. Also what is injected as `UnitOfWork` and `IntegrationEventPublisher`."""

    def __init__(
        self,
        services: UnitOfWorkServices,
        context: MessageContext,
        lineage: Lineage,
        *,
        read_only: bool = False,
        ambient: bool = True,
    ) -> None:
        self.context = context
        self.lineage = lineage
        self.instances: dict[Any, Any] = {}
        self._services = services
        self._read_only = read_only
        # A streaming query runs in its caller's context: what it bound there would leak between two answers.
        self._ambient = ambient
        self._open = False
        self._owner: asyncio.Task[Any] | None = None
        self._tracked: dict[int, AggregateRoot] = {}
        self._rows: list[dict[str, Any]] = []
        self._rows_before = 0
        self._rescheduled: set[int] = set()
        self._savepoints: dict[object, tuple[int, int, frozenset[int]]] = {}
        self._events = 0
        self._failed: tuple[int, str, BaseException] | None = None
        self._bound = ExitStack()
        database = services.database
        self._session = open_session(database.reader if read_only else database.writer, self)

    @property
    def session(self) -> AsyncSession:
        """The session of this unit of work."""
        return self._session

    @property
    def sync_session(self) -> Session:
        """The same session for plain functions, which run in its greenlet."""
        return self._session.sync_session

    @property
    def is_open(self) -> bool:
        """Whether the block is still running."""
        return self._open

    @property
    def database(self) -> Database:
        """Where it commits."""
        return self._services.database

    def track(self, aggregate: AggregateRoot) -> None:
        """Dispatch the events of `aggregate`, and keep it alive until the unit of work ends."""
        self._tracked[id(aggregate)] = aggregate

    def publish(self, *events: Publishable) -> None:
        """Publish integration events when this unit of work commits."""
        for event in events:
            self.publish_from(Origin(), event)

    async def cancel(self, event_id: UUID) -> bool:
        """Do not publish a scheduled event after all; False when it is no longer scheduled."""
        connection = await self._connection_to("cancel", event_id)
        return await self._services.schedule.cancel(connection, event_id)

    async def reschedule(self, event_id: UUID, *, delay: timedelta | None = None, at: datetime | None = None) -> bool:
        """Publish a scheduled event at another time; False when it is no longer scheduled."""
        if delay is None and at is None:
            raise UsageError(f"reschedule({event_id}) needs a time: give it delay=... or at=...")
        check_time(f"event {event_id}", delay, at)
        connection = await self._connection_to("reschedule", event_id)
        slots = await self._services.schedule.reschedule(connection, event_id, delay=delay, at=at)
        self._rescheduled.update(slots)
        return bool(slots)

    async def _connection_to(self, what: str, event_id: UUID) -> AsyncConnection:
        """The transaction, if the event can be one that is scheduled already."""
        if self._read_only:
            raise UnitOfWorkRequiredError(f"{what}() in a query")
        self.check_task(f"{what}()")
        if not isinstance(event_id, UUID):
            raise UsageError(f"{what}({event_id!r}) cannot work: use the event_id of the event, a UUID")
        if any(row["event_id"] == event_id for row in self._rows):
            why = "this unit of work itself publishes the event, and only when it commits"
            raise UsageError(f"{what}({event_id}) cannot work: {why}. Do not publish it, or with the right time")
        return await self._session.connection()

    def take_rows(self) -> list[dict[str, Any]]:
        """What was published so far, for another way than the outbox: it is not committed here."""
        rows, self._rows = self._rows, []
        return rows

    async def lock(self, *keys: str, timeout: timedelta = timedelta(seconds=10)) -> None:
        """Have these keys for this unit of work alone until it ends; raises LockTimeoutError."""
        if self._read_only:
            raise UnitOfWorkRequiredError("locking in a query")
        self.check_task("locking")
        _check_timeout(timeout)
        await self._services.locks.take(await self._session.connection(), keys, timeout)

    def savepoint(self) -> AsyncSessionTransaction:
        """A part that may fail by itself: what is recorded and published in it goes with it."""
        return self._session.begin_nested()

    def publish_from(self, origin: Origin, event: Publishable) -> None:
        """Add an outbox row for `event`."""
        if self._read_only:
            raise UnitOfWorkRequiredError("publishing from a query")
        self.check_task(f"publishing {type(event).__name__}")

        def add(outgoing: Outgoing[Any]) -> None:
            outgoing, outbox = outgoing_of(outgoing), self._services.outbox
            outbox.check_number(outgoing.event, len(self._rows) - self._rows_before + 1)
            self._rows.append(outbox.row(outgoing, self.context.module, self.lineage, origin))

        proceed: _Proceed = add
        for build in reversed(self._services.middleware):
            proceed = _around(build(self), proceed)
        proceed(outgoing_of(event))

    def turn_to(self, context: MessageContext, lineage: Lineage) -> None:
        """Handle another message in the same transaction; raises UsageError when the former one left it doomed."""
        self.check_task()
        self._raise_failure()
        self.context, self.lineage = context, lineage
        self.instances.clear()
        self._events, self._rows_before = 0, len(self._rows)
        self._bound.close()
        self._bind()

    @property
    def has_recorded(self) -> bool:
        """Whether a tracked aggregate has recorded something since the last dispatch."""
        return any(aggregate.recorded_events for aggregate in self._tracked.values())

    async def dispatch_events(self) -> None:
        """Dispatch what was recorded, and what that leads to, until nothing is left."""
        latest: RaisedEvent | None = None
        while True:
            await self._session.flush()
            waiting = self._take_events(latest)
            if not waiting:
                return
            while waiting:
                following: list[RaisedEvent] = []
                for raised in waiting:
                    await self._services.dispatcher.dispatch(raised, self)
                    following.extend(self._take_events(raised))
                    latest = raised
                if following:
                    await self._session.flush()
                waiting = following

    def check_task(self, what: str = "using its session") -> None:
        """Refuse any task but one, whose statements would interleave, and everybody after the end."""
        if not self._open:
            raise UnitOfWorkClosedError(what)
        try:
            task = asyncio.current_task()
        except RuntimeError:
            # The thread of a blocking handler, for which the one task waits.
            return
        if self._owner is None or self._owner.done():
            # Opened by a fixture, whose task has ended; from now on this one is served.
            self._owner = task
        elif task is not self._owner:
            raise ConcurrentUseError(self._owner.get_name(), "(none)" if task is None else task.get_name())

    def doom(self, command: str, error: BaseException) -> None:
        """A nested command failed half-way: unless a savepoint takes its part back, nothing is committed."""
        # The first failure counts: whatever savepoint takes it back takes the later ones back as well.
        self._failed = self._failed or (recording_mark(), command, error)

    def savepoint_began(self, savepoint: object) -> None:
        """Remember where things stood."""
        self._savepoints[savepoint] = (recording_mark(), len(self._rows), frozenset(self._tracked))

    def savepoint_rolled_back(self, savepoint: object) -> None:
        """Forget what was recorded and published since the savepoint."""
        if savepoint not in self._savepoints:
            return
        mark, rows, tracked = self._savepoints.pop(savepoint)
        del self._rows[rows:]
        if self._failed is not None and self._failed[0] > mark:
            self._failed = None
        for key, aggregate in list(self._tracked.items()):
            forget_events(aggregate, since=mark)
            # What entered the session since and left it with the savepoint may enter it again, events and all.
            state = inspect(aggregate, raiseerr=False)
            if key not in tracked and state is not None and state.session is None:
                del self._tracked[key]

    async def __aenter__(self) -> Self:
        self._open = True
        self._owner = task = asyncio.current_task()
        self._cancellations = task.cancelling() if task else 0
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await (self._check_unwritten() if self._read_only else self._complete())
        except BaseException as failure:
            error = failure
            raise
        finally:
            try:
                await shielded(self._end())
            except (SQLAlchemyError, OSError) as ending:
                # What went wrong first is what has to be known.
                if error is None:
                    raise
                error.add_note(f"its session could not be closed: {ending!r}")
            finally:
                self._open = False
                self._bound.close()

    def _bind(self) -> None:
        if self._ambient:
            if current_lineage() is not self.lineage:
                self._bound.enter_context(in_lineage(self.lineage))
            self._bound.enter_context(_made_current(self))

    def _raise_failure(self) -> None:
        if self._failed is not None:
            _, command, error = self._failed
            raise NestedCommandFailedError(command) from error

    async def _complete(self) -> None:
        reached, session = self._services.runtime.reached, self._session
        self._owner = asyncio.current_task()
        await self.dispatch_events()
        self._raise_failure()
        reached("uow.before_flush")
        await session.flush()
        reached("uow.after_flush")
        if self._rows:
            await self._services.outbox.write(await session.connection(), self._rows)
        reached("uow.after_outbox")
        task = asyncio.current_task()
        if task is not None and task.cancelling() > self._cancellations:
            raise asyncio.CancelledError("a cancelled unit of work does not commit")
        if session.in_transaction():
            reached("uow.before_commit")
            await shielded(self._commit())

    async def _check_unwritten(self) -> None:
        """A query changes nothing: what it left in its session is sent to the database, which refuses it."""
        self._owner = asyncio.current_task()
        await self._session.flush()

    async def _commit(self) -> None:
        session: Any = self._session.sync_session
        session.released = True
        self._owner = asyncio.current_task()
        used = (await self._session.connection()).info.get(SESSION)
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await self._session.commit()
        except (DBAPIError, OSError) as error:
            # A TimeoutError is an OSError as well.
            if not was_cut_off(error):
                raise
            await self._find_out(used, error)
        self._services.runtime.reached("uow.after_commit")
        if slots := self._rescheduled.union(row["slot"] for row in self._rows):
            self._services.wake_relay(slots)

    async def _find_out(self, session: ServerSession | None, error: Exception) -> None:
        """Return when the commit has happened although its answer was lost; raise otherwise."""
        happened = None
        # Of a delivery its next attempt finds out: it claims the event, or finds it claimed.
        if session is not None and self._rows and self.context.subscriber_id is None:
            row = max(self._rows, key=itemgetter("slot"))
            # One that is scheduled may have been cancelled since.
            keeps_history = self._services.keeps_history and row["slot"] >= 0
            happened = await was_committed(self.database, session, row, keeps_history=keeps_history)
        log.warning(
            "commit.answer_lost",
            unit_of_work=self.lineage.cause,
            committed=happened,
            error=brief(error),
        )
        if happened is None:
            raise CommitOutcomeUnknownError(self.lineage.cause) from error
        if not happened:
            raise error

    async def _end(self) -> None:
        for aggregate in self._tracked.values():
            forget_events(aggregate)
        self._tracked.clear()
        session: Any = self._session.sync_session
        session.released = True
        self._owner = asyncio.current_task()
        await self._session.close()

    def _take_events(self, parent: RaisedEvent | None) -> list[RaisedEvent]:
        recorded = [one for aggregate in list(self._tracked.values()) for one in take_events(aggregate)]
        recorded.sort(key=lambda one: one.number)
        new_id = self._services.runtime.new_id
        raised = [RaisedEvent(one.event, one.aggregate, new_id(), parent) for one in recorded]
        self._events += len(raised)
        if raised and raised[0].depth > MAX_DEPTH:
            raise DomainEventOverflowError("depth", MAX_DEPTH, raised[0].chain())
        if self._events > MAX_EVENTS:
            raise DomainEventOverflowError("number", MAX_EVENTS, raised[-1].chain())
        return raised


def _around(middleware: PublishingMiddleware, proceed: _Proceed) -> _Proceed:
    return lambda outgoing: middleware.publish(outgoing, proceed)


_current: ContextVar[SqlUnitOfWork | None] = ContextVar("mediator_unit_of_work", default=None)


@contextmanager
def _made_current(uow: SqlUnitOfWork) -> Iterator[None]:
    before = _current.get()
    _current.set(uow)
    try:
        yield
    finally:
        # Not by token: a fixture or a dependency may be closed in another context than it was opened in.
        _current.set(before)


def _check_timeout(timeout: Any) -> None:
    """What type checkers would find; not everybody has one."""
    if not isinstance(timeout, timedelta) or timeout < timedelta(0):
        raise UsageError(f"lock(timeout={timeout!r}) cannot work: use a timedelta that is not below 0")


def current_unit_of_work() -> SqlUnitOfWork | None:
    """The open unit of work that this code runs in."""
    uow = _current.get()
    return uow if uow is not None and uow.is_open else None


def join_unit_of_work(what: str, module: str, database: Database) -> SqlUnitOfWork | None:
    """The unit of work that `what` takes part in, if one is open; raises when this task or module cannot."""
    uow = current_unit_of_work()
    if uow is not None:
        uow.check_task()
        if uow.database is not database:
            raise OtherDatabaseError(what, module, database.name, uow.database.name)
    return uow
