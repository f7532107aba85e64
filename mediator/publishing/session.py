"""The session of a unit of work: an ordinary SQLModel session that knows whose it is.

It keeps every aggregate that enters it alive (an aggregate that was loaded, not modified and is no longer referenced
would be dropped from the identity map, and its events with it), refuses to be committed by anybody but its unit of
work, refuses a second task, and tells the unit of work where savepoints begin and which were rolled back.
"""

from functools import partial
from typing import Any, Protocol

import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from sqlalchemy import Connection, event
from sqlalchemy.orm import ORMExecuteState, SessionTransaction
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator.domain import AggregateRoot
from mediator.domain.aggregates import hand_on_events
from mediator.errors import TransactionOwnedError
from mediator.storage.engines import COMMIT_GUARD

__all__ = ["OwnedAsyncSession", "OwnedSession", "Owner", "open_session"]

_OWNER = "mediator.unit_of_work"


class Owner(Protocol):
    """What a session reports to its unit of work."""

    def track(self, aggregate: AggregateRoot) -> None:
        """An aggregate entered the session."""

    def check_task(self) -> None:
        """The session is about to be used."""

    def savepoint_began(self, savepoint: object) -> None:
        """A savepoint was set."""

    def savepoint_rolled_back(self, savepoint: object) -> None:
        """A savepoint was rolled back: what was recorded since did not happen."""


class OwnedSession(Session):
    """A session that only its unit of work may end."""

    released = False

    def execute(self, *arguments: Any, **options: Any) -> Any:
        """SQLAlchemy's own, without the warning of SQLModel: code bases that use it are as welcome."""
        return sqlalchemy.orm.Session.execute(self, *arguments, **options)

    def merge(self, instance: Any, **options: Any) -> Any:
        """As ever; what a detached aggregate recorded goes over to the object that takes its place."""
        merged = super().merge(instance, **options)
        if isinstance(instance, AggregateRoot) and merged is not instance:
            hand_on_events(instance, merged)
        return merged

    def commit(self) -> None:
        """Refused while the unit of work is open."""
        self.check_released("commit")
        super().commit()

    def rollback(self) -> None:
        """Refused while the unit of work is open."""
        self.check_released("rollback")
        super().rollback()

    def close(self) -> None:
        """Refused while the unit of work is open."""
        self.check_released("close")
        super().close()

    def invalidate(self) -> None:
        """Refused while the unit of work is open."""
        self.check_released("invalidate")
        super().invalidate()

    def reset(self) -> None:
        """Refused while the unit of work is open."""
        self.check_released("reset")
        super().reset()

    def check_released(self, call: str) -> None:
        """Raise TransactionOwnedError unless the unit of work itself is ending."""
        if not self.released:
            raise TransactionOwnedError(call)


class OwnedAsyncSession(AsyncSession):
    """Its asynchronous form."""

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """SQLAlchemy's own, without the warning of SQLModel."""
        return await sqlalchemy.ext.asyncio.AsyncSession.execute(self, *arguments, **options)


def open_session(bind: Any, owner: Owner) -> AsyncSession:
    """A session on `bind` that belongs to `owner`; it begins its transaction with the first statement."""
    session = OwnedAsyncSession(bind, sync_session_class=OwnedSession, expire_on_commit=False)
    session.sync_session.info[_OWNER] = owner
    return session


def _entered(session: Session, instance: object) -> None:
    if isinstance(instance, AggregateRoot):
        session.info[_OWNER].track(instance)


for _moment in ("transient_to_pending", "detached_to_persistent", "loaded_as_persistent"):
    event.listen(OwnedSession, _moment, _entered)


@event.listens_for(OwnedSession, "do_orm_execute")
def _before_statement(state: ORMExecuteState) -> None:
    state.session.info[_OWNER].check_task()


@event.listens_for(OwnedSession, "before_flush")
def _before_flush(session: Session, _context: object, _instances: object) -> None:
    session.info[_OWNER].check_task()


@event.listens_for(OwnedSession, "before_commit")
def _before_commit(session: OwnedSession) -> None:
    # `async with session.begin()` and `get_transaction().commit()` do not pass by Session.commit().
    if not session.released and session.get_nested_transaction() is None:
        raise TransactionOwnedError("commit")


@event.listens_for(OwnedSession, "after_transaction_create")
def _after_create(session: Session, transaction: SessionTransaction) -> None:
    session.info[_OWNER].check_task()
    if transaction.nested:
        session.info[_OWNER].savepoint_began(transaction)


@event.listens_for(OwnedSession, "after_begin")
def _after_begin(session: OwnedSession, _transaction: SessionTransaction, connection: Connection) -> None:
    # `(await session.connection()).commit()` passes by the session altogether.
    connection.info[COMMIT_GUARD] = partial(session.check_released, "connection().commit")


@event.listens_for(OwnedSession, "after_soft_rollback")
def _after_rollback(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.info[_OWNER].savepoint_rolled_back(transaction)
