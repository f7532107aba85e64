"""Looking into a database from outside of the application, without stopping its loop meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.databases import execute

__all__ = ["comes_true", "look"]

_BETWEEN_SECONDS = 0.1


async def look(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, on a connection of its own."""
    return [tuple(row) for row in await asyncio.to_thread(execute, url, query)]


async def comes_true(condition: Callable[[], Awaitable[object]]) -> None:
    """Return when the condition holds; the test's own timeout ends the waiting."""
    while True:
        if await condition():
            return
        await asyncio.sleep(_BETWEEN_SECONDS)
