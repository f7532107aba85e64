"""The line to the database that carries the events: every statement of the transport goes through it, under a timeout.

It tells once when the database does not answer, and once when it does again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from mediator.errors import TransportUnavailableError
from mediator.storage.engines import brief, is_transient

__all__ = ["NAME", "Line", "is_outage"]

T = TypeVar("T")

log = structlog.get_logger(__name__)
NAME = "sql"
_AGAIN_SECONDS = 0.1


class Line:
    """Whether the database answers."""

    def __init__(self, database: str) -> None:
        self._database, self._is_lost = database, False

    async def within(self, work: Awaitable[T], seconds: float) -> T:
        """What `work` gives; raises TransportUnavailableError when the database is away, busy, or does not answer."""
        try:
            async with asyncio.timeout(seconds):
                done = await work
        except Exception as error:
            if not isinstance(error, TimeoutError) and not is_transient(error):
                raise
            why = brief(error) or f"the database did not answer within {seconds:g} s"
            if not self._is_lost:
                self._is_lost = True
                log.warning("transport.connection_lost", transport=NAME, database=self._database, error=why)
            raise TransportUnavailableError(NAME, why) from error
        if self._is_lost:
            self._is_lost = False
            log.info("transport.connected_again", transport=NAME, database=self._database)
        return done

    async def insist(self, look: Callable[[], Awaitable[T]], seconds: float) -> T:
        """What `look` gives, again if need be: the first statement after an outage meets a connection that broke."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            try:
                return await self.within(look(), max(end - clock(), _AGAIN_SECONDS))
            except TransportUnavailableError:
                if clock() + _AGAIN_SECONDS >= end:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)


def is_outage(error: BaseException) -> bool:
    """Whether a loop of the transport was interrupted by nobody's fault."""
    return isinstance(error, TransportUnavailableError)
