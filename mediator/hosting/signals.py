"""Signals: a process that does nothing but run the application stops in order when it is told to."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import structlog

__all__ = ["run_until_signalled"]

log = structlog.get_logger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_until_signalled(application: AbstractAsyncContextManager[Any]) -> None:
    """Enter `application`, and leave it at the first signal; the second one ends the waiting for what is under way."""
    loop, told, patience = asyncio.get_running_loop(), asyncio.Event(), asyncio.timeout(None)

    def stop() -> None:
        if told.is_set():
            patience.reschedule(loop.time())
        told.set()

    try:
        async with patience:
            with _handled_by(stop, loop):
                async with application:
                    await told.wait()
    except TimeoutError:
        if not patience.expired():
            raise
        log.warning("application.stopped_at_once")


@contextmanager
def _handled_by(stop: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
