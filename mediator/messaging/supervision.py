"""Supervised loops: background work that goes on whatever goes wrong in it.

A loop that ends with an error is logged and started again after a pause that doubles up to half a minute. This is one
of the few places that catch every exception, and it records each.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

__all__ = ["keep_running"]

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
