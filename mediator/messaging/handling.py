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

    async def dispatch_events(self) -> None:
        """Dispatch the domain events recorded so far, and what they lead to."""
        ...


class OpenUnitOfWork(Protocol):
    """Opens a unit of work; nothing is sent to the database before its session is used."""

    def __call__(
        self, context: MessageContext, lineage: Lineage
    ) -> AbstractAsyncContextManager[HandlingUnitOfWork]: ...
