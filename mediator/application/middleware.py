"""Middleware: what happens around every integration event, when it is published and when it is handled.

    class Stamp(PublishingMiddleware):
        def publish(self, outgoing, proceed):
            proceed(replace(outgoing, headers={**outgoing.headers, "region": "eu"}))

    class OnlyEurope(HandlingMiddleware):
        async def handle(self, event, context, proceed):
            if context.headers.get("region") == "eu":
                await proceed(event)

    MediatorApp(..., middleware=[Stamp, OnlyEurope, ContextPropagation(tenant=current_tenant)])

The first in the list is the outermost. Both kinds are built like handlers, for each event, with what a unit of work
has; an object in the list is used as it is. Whoever does not proceed stops the event: it is not published, or counts as
handled.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from contracts import IntegrationEvent
from mediator.application.context import MessageContext
from mediator.application.converters import Outgoing

__all__ = ["ContextPropagation", "HandlingMiddleware", "PublishingMiddleware"]


class PublishingMiddleware(ABC):
    """Stands around every event that a unit of work publishes, by hand, by converter or returned."""

    @abstractmethod
    def publish(self, outgoing: Outgoing[Any], proceed: Callable[[Outgoing[Any]], None]) -> None:
        """Call `proceed` with the event, changed or as it is. Not async: what cannot be sent fails where it is said."""


class HandlingMiddleware(ABC):
    """Stands around every attempt of every integration event handler, in its transaction and its timeout."""

    @abstractmethod
    async def handle(
        self,
        event: IntegrationEvent,
        context: MessageContext,
        proceed: Callable[[IntegrationEvent], Awaitable[None]],
    ) -> None:
        """`await proceed(event)`, with the event or another of its class; what it returns is published by then."""


class ContextPropagation(PublishingMiddleware, HandlingMiddleware):
    """Context variables travel as headers of their names, with `-` for `_`, and are set again around the handlers.

    A variable without a value, or with None, makes no header; without the header, the variable stays as it is.
    """

    def __init__(self, **variables: ContextVar[Any]) -> None:
        self._variables = {name.replace("_", "-"): variable for name, variable in variables.items()}

    def publish(self, outgoing: Outgoing[Any], proceed: Callable[[Outgoing[Any]], None]) -> None:
        """Add the headers; those that the event has already stay."""
        found = {name: variable.get(None) for name, variable in self._variables.items()}
        headers = {name: str(value) for name, value in found.items() if value is not None}
        proceed(replace(outgoing, headers={**headers, **outgoing.headers}))

    async def handle(
        self,
        event: IntegrationEvent,
        context: MessageContext,
        proceed: Callable[[IntegrationEvent], Awaitable[None]],
    ) -> None:
        """Set the variables for the time of the handler."""
        with ExitStack() as stack:
            for name, variable in self._variables.items():
                if name in context.headers:
                    stack.callback(variable.reset, variable.set(context.headers[name]))
            await proceed(event)
