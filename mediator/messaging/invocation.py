"""Calling handlers of either colour: a coroutine, or a plain function.

A plain function runs in the session's greenlet, so that it can use a plain `Session` on the same connection; with
`blocking = True` it runs in a thread and has no session. Which of the three it is, is decided once, at start.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from anyio import CapacityLimiter, to_thread

from mediator.application.ports import UnitOfWork

__all__ = ["Invoke", "compile_invocation"]

_THREADS = 40
Invoke = Callable[[Any, Any, UnitOfWork], Awaitable[Any]]
"""Call a handler with a message, in a unit of work."""


def compile_invocation(handler_class: type, method: str = "handle") -> Invoke:
    """How to call `method` of this class's instances."""
    function = getattr(handler_class, method)
    if inspect.iscoroutinefunction(function):
        return lambda handler, message, _uow: function(handler, message)
    if getattr(handler_class, "blocking", False):
        # Threads of its own: slow handlers must not keep those of others waiting.
        limiter = CapacityLimiter(getattr(handler_class, "concurrency", _THREADS))

        async def call_in_thread(handler: Any, message: Any, _uow: UnitOfWork) -> Any:
            return await to_thread.run_sync(function, handler, message, limiter=limiter, abandon_on_cancel=True)

        return call_in_thread

    async def call_in_greenlet(handler: Any, message: Any, uow: UnitOfWork) -> Any:
        def call(_session: object) -> Any:
            result = function(handler, message)
            # A generator goes on where it is consumed, which has to be here.
            return list(result) if inspect.isgenerator(result) else result

        result = await uow.session.run_sync(call)
        return await result if inspect.isawaitable(result) else result

    return call_in_greenlet
