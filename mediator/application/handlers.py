"""Handlers: one class each, found automatically, built anew for every message with what its constructor names.

`handle` may be `async def`, or a plain `def` that works with a plain `Session`. Work that blocks (a synchronous HTTP
client, a long computation) belongs into a handler with `blocking = True`: it runs in a thread and gets no session.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from contracts import IntegrationEvent
from mediator.application.circuit_breaker import CircuitBreaker
from mediator.application.converters import Publishable
from mediator.application.messages import Command, Query, StreamQuery, WithEvents
from mediator.application.retry import RetryPolicy
from mediator.domain import DomainEvent

__all__ = [
    "BatchIntegrationEventHandler",
    "CommandHandler",
    "DomainEventHandler",
    "IntegrationEventHandler",
    "QueryHandler",
    "Returned",
    "StreamQueryHandler",
]

C_contra = TypeVar("C_contra", bound=Command[Any], contravariant=True)
Q_contra = TypeVar("Q_contra", bound=Query[Any], contravariant=True)
S_contra = TypeVar("S_contra", bound=StreamQuery[Any], contravariant=True)
D_contra = TypeVar("D_contra", bound=DomainEvent, contravariant=True)
E_contra = TypeVar("E_contra", bound=IntegrationEvent, contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Returned: TypeAlias = Publishable | Iterable[Publishable] | None


class CommandHandler(ABC, Generic[C_contra, R]):
    """Carries out one kind of command, in a unit of work that commits when it returns."""

    blocking: ClassVar[bool] = False
    lock_timeout: ClassVar[timedelta] = timedelta(seconds=10)
    """How long to wait for each of the locks; then LockTimeoutError."""

    def lock_keys(self, command: C_contra, /) -> Iterable[str]:  # noqa: ARG002
        """What this command must have for itself: of all commands, in all processes on this database, that name a
        key, one at a time is carried out. The locks are held until its unit of work has ended.
        """
        return ()

    @abstractmethod
    def handle(self, command: C_contra, /) -> R | WithEvents[R] | Awaitable[R | WithEvents[R]]:
        """Do it and give the result; `WithEvents(result, event, ...)` publishes the events as well."""


class QueryHandler(ABC, Generic[Q_contra, R]):
    """Answers one kind of query; what it would write is refused by the database."""

    blocking: ClassVar[bool] = False

    @abstractmethod
    def handle(self, query: Q_contra, /) -> R | Awaitable[R]:
        """Give the answer."""


class StreamQueryHandler(ABC, Generic[S_contra, R_co]):
    """Answers one kind of query bit by bit: `handle` is an async generator."""

    @abstractmethod
    def handle(self, query: S_contra, /) -> AsyncIterator[R_co]:
        """Give the answers one by one."""


class DomainEventHandler(ABC, Generic[D_contra]):
    """Reacts to a domain event (or a subclass of it) in the transaction that recorded it."""

    blocking: ClassVar[bool] = False

    @abstractmethod
    def handle(self, event: D_contra, /) -> Awaitable[None] | None:
        """React; whatever this raises rolls the whole unit of work back."""


class _Subscriber:
    """What is said of a handler of integration events, as class attributes."""

    subscriber_id: ClassVar[str | None] = None
    """Names this handler in the inbox; by default `module.handler-class`. Never change it: see `aliases`."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Ids that this handler had before it was renamed: what was handled under them stays handled."""
    retry: ClassVar[RetryPolicy] = RetryPolicy.exponential()
    circuit_breaker: ClassVar[CircuitBreaker | None] = None
    """What to do when something that this handler depends on is away."""
    ordering: ClassVar[Literal["key", "none"]] = "none"
    """"key": a failing event holds back the later events of its partition key, for this handler."""
    when_dead: ClassVar[Literal["block", "skip"]] = "block"
    """With `ordering = "key"`: behind a dead event its key waits for a person, or goes on without it ("skip"). Then the
    later ones are told of it by `MessageContext.skipped`.
    """
    concurrency: ClassVar[int] = 8
    """How many events of this handler may be under way at once in this process; of batches, how many batches."""
    timeout: ClassVar[timedelta] = timedelta(seconds=30)
    """How long one event may take, or a batch of them."""
    max_batch: ClassVar[int] = 1
    """How many waiting events may share a transaction. Each is handled by itself; what fails is taken out, and the
    others are handled anew: for handlers that touch nothing but the database.
    """
    topics: ClassVar[tuple[str, ...]] = ()
    """Full addresses and patterns of them (`*` is one segment, `#` any number, `{environment}` the application's), in
    place of its events' own topics. `IntegrationEventHandler[IntegrationEvent]` takes every known event from them."""
    broadcast: ClassVar[bool] = False
    """Every instance that shares the transport gets its copy, instead of one instance of the module."""
    blocking: ClassVar[bool] = False


class IntegrationEventHandler(_Subscriber, ABC, Generic[E_contra]):
    """Reacts to an integration event, in a transaction of its own, once per event id.

    Several kinds of event: `IntegrationEventHandler[OrderPlacedV1 | OrderCancelledV1]`.
    """

    @abstractmethod
    def handle(self, event: E_contra, /) -> Returned | Awaitable[Returned]:
        """React; integration events that this returns are published in the same transaction."""


class BatchIntegrationEventHandler(_Subscriber, ABC, Generic[E_contra]):
    """Reacts to several integration events at once, those that wait, in one transaction, once per event id.

    When it raises, its events are handled one by one, each as a list of one, and only the failing ones are retried.
    """

    max_batch: ClassVar[int] = 100

    @abstractmethod
    def handle(self, events: Sequence[E_contra], /) -> Returned | Awaitable[Returned]:
        """React; integration events that this returns are published as caused by the first of `events`."""
