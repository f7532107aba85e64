"""Supervised loops: background work that goes on whatever goes wrong in it.

A loop that ends with an error is logged and started again after a pause that doubles up to half a minute. This is one
of the few places that catch every exception, and it records each.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

__all__ = ["background", "ended", "every", "happens", "keep_running", "shielded", "together"]

T = TypeVar("T")

log = structlog.get_logger(__name__)
_LONGEST_PAUSE_SECONDS, _LONGEST_OUTAGE_PAUSE_SECONDS = 30.0, 1.0
_AGAIN_SECONDS = 1.0


async def keep_running(
    name: str, loop: Callable[[], Awaitable[None]], *, is_outage: Callable[[BaseException], bool] | None = None
) -> None:
    """Run `loop` until it returns; run it again when it raises.

    What `is_outage` says is nobody's fault and will pass: told of briefly, and tried again every second at least. A
    cancellation that nobody asked for, as libraries let slip out when a connection ends, is an error like any other.
    """
    pause = 0.1
    while True:
        started = asyncio.get_running_loop().time()
        try:
            return await loop()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            longest = _LONGEST_PAUSE_SECONDS
            if is_outage is not None and is_outage(error):
                longest = _LONGEST_OUTAGE_PAUSE_SECONDS
                log.warning(
                    "loop.interrupted",
                    loop=name,
                    pause_seconds=min(pause, longest),
                    error=str(getattr(error, "orig", error)),
                )
            else:
                log.exception("loop.failed", loop=name, pause_seconds=pause)
        if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_SECONDS:
            pause = 0.1
        pause = min(pause, longest)
        await asyncio.sleep(pause)
        pause *= 2


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@asynccontextmanager
async def background(
    name: str, loop: Callable[[], Awaitable[None]], *, is_outage: Callable[[BaseException], bool] | None = None
) -> AsyncIterator[None]:
    """Keep `loop` running for the time of the block."""
    task = asyncio.create_task(keep_running(name, loop, is_outage=is_outage), name=name)
    try:
        yield
    finally:
        task.cancel()
        await ended([task])


def every(seconds: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """A loop that does `work` again and again, with a pause before each time."""

    async def loop() -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    return loop


async def shielded(work: Awaitable[T]) -> T:
    """Await `work` to its end whatever happens to this task; a cancellation is raised after that."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None and not task.cancelled() and task.exception() is None:
        raise cancellation
    return task.result()


async def ended(tasks: Collection[asyncio.Task[Any]], patience_seconds: float = 10.0) -> None:
    """Wait for tasks that are about to end, and cancel those that do not: without a database they go on trying.

    Cancelled as often as it takes: what fails while it is cleaned up takes the place of the cancellation. When this
    task is cancelled, its patience is over; the cancellation is raised when they have ended.
    """
    late, cancellation = set(tasks), None
    while late:
        try:
            await asyncio.wait(late, timeout=patience_seconds)
        except asyncio.CancelledError as error:
            cancellation = error
        late = {task for task in late if not task.done()}
        for task in late:
            task.cancel()
        patience_seconds = _AGAIN_SECONDS
    if cancellation is not None:
        raise cancellation


async def together(*works: Awaitable[None]) -> None:
    """Await all of them to their end, whatever happens to one; an error is raised after that."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if outcome is not None:
            raise outcome


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, so long at most; False when it did not happen."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
