"""Lanes: how many events of one handler are under way at once, and which of them one after the other.

A key always takes the same lane, so events of one key are handled in the order of their arrival, and two deliveries of
one event do not meet. What waits in the lanes is bounded by the consumer, which fetches no more than its prefetch.
"""

import asyncio
from collections.abc import Awaitable, Callable
from zlib import crc32

import structlog

from mediator.messaging.envelope import Envelope

__all__ = ["Lanes"]

log = structlog.get_logger(__name__)
_Job = Callable[[], Awaitable[None]]


class Lanes:
    """The lanes of one subscriber."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._queues: list[asyncio.Queue[_Job]] = [asyncio.Queue() for _ in range(number)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        self._tasks = [
            asyncio.create_task(self._work(queue), name=f"lane.{self._name}.{number}")
            for number, queue in enumerate(self._queues)
        ]

    def put(self, envelope: Envelope, job: _Job) -> None:
        """Do `job` after everything that was put before it for the envelope's key."""
        identity = envelope.key.encode() if envelope.key is not None else envelope.event_id.bytes
        self._queues[crc32(identity) % len(self._queues)].put_nowait(job)

    async def stop(self) -> None:
        """Cancel what is running; what waits is dropped, and settled by whoever put it there."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self, queue: asyncio.Queue[_Job]) -> None:
        while True:
            job = await queue.get()
            try:
                await job()
            except Exception:
                log.exception("lane.job_failed", subscriber=self._name)
