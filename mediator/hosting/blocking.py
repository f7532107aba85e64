"""For synchronous callers (Flask, Django, Celery, scripts): a portal to the application's loop in a thread.

    with BlockingMediator(app) as mediator:
        order_id = mediator.send(PlaceOrder("KB-01"))

The application runs in that loop; the same classes serve both colours, there is no synchronous twin of any of them.
"""

from collections.abc import Generator
from concurrent.futures import wait
from contextlib import ExitStack, aclosing, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from anyio import BrokenResourceError, EndOfStream, create_memory_object_stream
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.streams.memory import MemoryObjectReceiveStream

from mediator.application import Command, Publishable, Query, StreamQuery
from mediator.errors import NotRunningError
from mediator.hosting.app import MediatorApp

__all__ = ["BlockingMediator"]

R = TypeVar("R")


class BlockingMediator:
    """Runs an application in a background thread and calls it from any other; may be shared by threads."""

    def __init__(self, app: MediatorApp) -> None:
        self._app = app
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._streams: set[MemoryObjectReceiveStream[Any]] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._app))
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        portal, self._portal = self._portal, None
        for receiver in list(self._streams):
            # A stream that somebody left open would keep the portal waiting.
            if portal is not None:
                portal.call(receiver.aclose)
        self._stack.close()

    @overload
    def send(self, message: Command[R], *, correlation_id: str | None = None, traceparent: str | None = None) -> R: ...
    @overload
    def send(self, message: Query[R], *, correlation_id: str | None = None, traceparent: str | None = None) -> R: ...
    def send(
        self, message: Command[R] | Query[R], *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> R:
        """Give the result of the message's handler; what it changed is committed when this returns."""

        async def send() -> R:
            return await self._app.mediator.send(message, correlation_id=correlation_id, traceparent=traceparent)

        return self._entered("send()").call(send)

    def stream(self, query: StreamQuery[R], *, correlation_id: str | None = None) -> Generator[R, None, None]:
        """The answers of a streaming query, fetched one by one; closing the generator ends it early."""
        portal = self._entered("stream()")

        async def pump(*, task_status: TaskStatus[MemoryObjectReceiveStream[R]]) -> None:
            # One task from the first answer to the last: the session serves no other.
            sender, receiver = create_memory_object_stream[R]()
            task_status.started(receiver)
            answers = self._app.mediator.stream(query, correlation_id=correlation_id)
            async with sender, aclosing(answers):
                with suppress(BrokenResourceError):
                    async for answer in answers:
                        await sender.send(answer)

        pumping, receiver = portal.start_task(pump)
        self._streams.add(receiver)
        try:
            with suppress(EndOfStream):
                while True:
                    yield portal.call(receiver.receive)
            pumping.result()
        finally:
            # Left early: what the handler still does is of no interest, but it has to have ended.
            self._streams.discard(receiver)
            if self._portal is portal:
                portal.call(receiver.aclose)
            wait([pumping])

    def publish_in_own_transaction(self, *events: Publishable, module: str | None = None) -> None:
        """Publish when nothing else has to commit together with it."""

        async def publish() -> None:
            await self._app.publish_in_own_transaction(*events, module=module)

        self._entered("publish_in_own_transaction()").call(publish)

    def drained(self, timeout: timedelta = timedelta(seconds=30)) -> None:
        """Wait until nothing is pending anywhere."""

        async def drained() -> None:
            await self._app.drained(timeout)

        self._entered("drained()").call(drained)

    def _entered(self, what: str) -> BlockingPortal:
        if self._portal is None:
            raise NotRunningError(what)
        return self._portal
