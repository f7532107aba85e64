"""The mediator that everybody holds: the same object before, during and after a run of the application."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar, overload

from mediator.application import Command, Mediator, Query, StreamQuery

__all__ = ["StableMediator"]

R = TypeVar("R")


class StableMediator:
    """Hands over to the mediator of the run; raises NotRunningError when there is none.

    A singleton may keep it over a stop and a new start.
    """

    def __init__(self, running: Callable[[str], Mediator]) -> None:
        self._running = running

    @overload
    async def send(
        self, message: Command[R], *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> R: ...
    @overload
    async def send(
        self, message: Query[R], *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> R: ...
    async def send(self, message: Any, *, correlation_id: str | None = None, traceparent: str | None = None) -> Any:
        """Give the result of the message's handler; what it changed is committed when this returns."""
        return await self._running("send()").send(message, correlation_id=correlation_id, traceparent=traceparent)

    def stream(self, query: StreamQuery[R], *, correlation_id: str | None = None) -> AsyncGenerator[R, None]:
        """The answers of a streaming query, one by one."""
        return self._running("stream()").stream(query, correlation_id=correlation_id)
