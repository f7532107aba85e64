"""Supervised loops: background work that goes on whatever goes wrong in it.

A loop that ends with an error is logged and started again after a pause that doubles up to half a minute. This is one
of the few places that catch every exception, and it records each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import structlog

__all__ = ["ended", "happens", "keep_running", "shielded"]

T = TypeVar("T")

log = structlog.get_logger(__name__)
_LONGEST_PAUSE_SECONDS = 30.0


async def keep_running(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run `loop` until it returns; run it again when it raises."""
    pause = 0.1
    while True:
        started = asyncio.get_running_loop().time()
        try:
            return await loop()
        except Exception:
            log.exception("loop.failed", loop=name, pause_seconds=pause)
        if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_SECONDS:
            pause = 0.1
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


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


async def ended(tasks: Collection[asyncio.Task[None]], patience_seconds: float = 10.0) -> None:
    """Wait for tasks that are about to end, and cancel those that do not: without a database they go on trying."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=patience_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, so long at most; False when it did not happen."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
