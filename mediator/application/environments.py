"""Environment routing: deployments that try something out handle their own events, the main one handles the rest.

    MediatorApp("shop-feature-42", ..., middleware=[EnvironmentRouting("feature-42")])
    MediatorApp("shop", ..., middleware=[EnvironmentRouting(others={"feature-42"})])

Every event carries the environment that it began in, as a header. Each deployment gets every event and hands its
handlers those that are meant for it; the others count as handled there. So deployments must not share a group: two that
do would take each other's events away.
"""

from collections.abc import Awaitable, Callable, Container
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from contracts import IntegrationEvent
from mediator.application.context import MessageContext
from mediator.application.converters import Outgoing
from mediator.application.middleware import HandlingMiddleware, PublishingMiddleware
from mediator.errors import SettingsError

__all__ = ["EnvironmentRouting"]

_HEADER: Final = "x-environment"
_handled: ContextVar[str | None] = ContextVar("mediator_environment", default=None)
"""Where the event began that is being handled: what its handlers publish belongs there as well."""


class EnvironmentRouting(PublishingMiddleware, HandlingMiddleware):
    """Events of one environment, or, without a name, all but those of `others`."""

    def __init__(self, name: str | None = None, *, others: Container[str] = ()) -> None:
        if name == "" or isinstance(others, str) or (name is not None and others != ()):
            fix = 'use EnvironmentRouting("feature-42"), or EnvironmentRouting(others={"feature-42"}) in the main one'
            raise SettingsError("EnvironmentRouting", (name, others), fix)
        self._name, self._others = name, others

    def publish(self, outgoing: Outgoing[Any], proceed: Callable[[Outgoing[Any]], None]) -> None:
        """Say where the event belongs, unless it says so itself: where it began, or else here."""
        environment = _handled.get() or self._name
        headers = {} if environment is None else {_HEADER: environment}
        proceed(replace(outgoing, headers={**headers, **outgoing.headers}))

    async def handle(
        self,
        event: IntegrationEvent,
        context: MessageContext,
        proceed: Callable[[IntegrationEvent], Awaitable[None]],
    ) -> None:
        """Proceed with what is meant for this deployment."""
        environment = context.headers.get(_HEADER)
        if self._name is None:
            is_mine = environment is None or environment not in self._others
        else:
            is_mine = environment == self._name
        if not is_mine:
            return
        token = _handled.set(environment)
        try:
            await proceed(event)
        finally:
            _handled.reset(token)
