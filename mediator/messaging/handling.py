"""What a consumer needs of the publishing side: a unit of work to run a handler in. Both sides meet here."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from mediator.application import MessageContext, UnitOfWork
from mediator.messaging.lineage import Lineage

__all__ = ["Build", "HandlingUnitOfWork", "OpenUnitOfWork"]

Build: TypeAlias = Callable[[Any], Any]
"""A compiled construction plan: makes a handler from what a unit of work has."""


class HandlingUnitOfWork(UnitOfWork, Protocol):
    """A unit of work that a handler runs in."""

    @property
    def context(self) -> MessageContext:
        """What is known of the message."""
        ...

    @property
    def has_recorded(self) -> bool:
        """Whether an aggregate that it tracks has recorded something since the last dispatch."""
        ...

    def turn_to(self, context: MessageContext, lineage: Lineage) -> None:
        """From now on the next message is handled here: what is scoped to a message is built anew."""
        ...

    async def dispatch_events(self) -> None:
        """Dispatch the domain events recorded so far, and what they lead to."""
        ...


class OpenUnitOfWork(Protocol):
    """Opens a unit of work; nothing is sent to the database before its session is used."""

    def __call__(
        self, context: MessageContext, lineage: Lineage
    ) -> AbstractAsyncContextManager[HandlingUnitOfWork]: ...
