"""What use cases see of the machinery behind them."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar, overload
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSessionTransaction
    from sqlmodel.ext.asyncio.session import AsyncSession

    from mediator.application.converters import Publishable
    from mediator.application.messages import Command, Query, StreamQuery
    from mediator.domain import AggregateRoot

__all__ = ["IntegrationEventPublisher", "Mediator", "UnitOfWork"]

R = TypeVar("R")


class IntegrationEventPublisher(Protocol):
    """Publishes by hand, in the unit of work that it was injected in."""

    def publish(self, *events: "Publishable") -> None:
        """Leave when, and only if, the unit of work commits. Raises EventRefusedError for what cannot be published."""
        ...

    async def cancel(self, event_id: UUID) -> bool:
        """Do not publish a scheduled event after all, if the unit of work commits.

        False when it is not scheduled any more: released, sent, cancelled, or never known.
        """
        ...

    async def reschedule(self, event_id: UUID, *, delay: timedelta | None = None, at: datetime | None = None) -> bool:
        """Publish a scheduled event so much later than now, or at a time, if the unit of work commits.

        False as for `cancel`. Raises EventRefusedError for a time that cannot be waited for.
        """
        ...


class UnitOfWork(Protocol):
    """One transaction: the change and what it publishes.

    async with app.unit_of_work("ordering") as uow:
        uow.session.add(order)
    """

    @property
    def session(self) -> "AsyncSession":
        """The one session of this unit of work; the unit of work commits it."""
        ...

    def track(self, aggregate: "AggregateRoot") -> None:
        """Dispatch the events of an aggregate that no session knows."""
        ...

    def publish(self, *events: "Publishable") -> None:
        """Publish integration events when this unit of work commits."""
        ...

    async def cancel(self, event_id: UUID) -> bool:
        """Do not publish a scheduled event after all; False when it is no longer scheduled."""
        ...

    async def reschedule(self, event_id: UUID, *, delay: timedelta | None = None, at: datetime | None = None) -> bool:
        """Publish a scheduled event at another time; False when it is no longer scheduled."""
        ...

    async def lock(self, *keys: str, timeout: timedelta = timedelta(seconds=10)) -> None:
        """Have these keys for this unit of work alone until it ends; raises LockTimeoutError."""
        ...

    def savepoint(self) -> "AsyncSessionTransaction":
        """`async with uow.savepoint():` a part that may fail by itself; its events go with it."""
        ...


class Mediator(Protocol):
    """Sends commands and queries to their one handler.

    The caller may give the correlation id (`X-Correlation-ID`) and trace context (W3C `traceparent`) that it has; both
    travel with everything that the message sets off. Raises HandlerNotFoundError, ValidationFailedError, and whatever
    the handler raises.
    """

    @overload
    async def send(
        self, message: "Command[R]", *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> R: ...
    @overload
    async def send(
        self, message: "Query[R]", *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> R: ...

    def stream(self, query: "StreamQuery[R]", *, correlation_id: str | None = None) -> AsyncGenerator[R, None]:
        """The answers of a streaming query, one by one; `aclosing` it ends it early."""
        ...
