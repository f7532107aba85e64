"""Lanes: how many events of one handler are under way at once, and which of them one after the other.

A key always takes the same lane, so events of one key are handled in the order of their arrival, and two deliveries of
one event do not meet. What waits in the lanes is bounded by the consumer, which fetches no more than its prefetch.
"""

import asyncio
from collections.abc import Awaitable, Callable
from zlib import crc32

import structlog

from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import ended

__all__ = ["Lanes"]

log = structlog.get_logger(__name__)
_Job = Callable[[], Awaitable[None]]


class Lanes:
    """The lanes of one subscriber."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._queues: list[asyncio.Queue[_Job]] = [asyncio.Queue() for _ in range(number)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def is_stopping(self) -> bool:
        """Whether what runs is cancelled; to be asked after every error, for one may take the cancellation's place."""
        return self._stopping

    def start(self) -> None:
        """Begin to work, unless it has."""
        self._tasks = self._tasks or [self._begin(number) for number in range(len(self._queues))]

    def put(self, envelope: Envelope, job: _Job) -> None:
        """Do `job` after everything that was put before it for the envelope's key."""
        identity = envelope.key.encode() if envelope.key is not None else envelope.event_id.bytes
        self._queues[crc32(identity) % len(self._queues)].put_nowait(job)

    async def stop(self) -> None:
        """Cancel what is running; what waits is dropped, and settled by whoever put it there."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)

    def _begin(self, number: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._work(self._queues[number]), name=f"lane.{self._name}.{number}")
        task.add_done_callback(lambda _: self._go_on(number))
        return task

    def _go_on(self, number: int) -> None:
        """A library that cancels the task which it runs in ends a lane: what waits there goes on in a new one."""
        if not self._stopping:
            log.warning("lane.cancelled", subscriber=self._name)
            self._tasks[number] = self._begin(number)

    async def _work(self, queue: asyncio.Queue[_Job]) -> None:
        task = asyncio.current_task()
        # Once it was cancelled it is of no use any more: libraries go by the number of requests.
        while not self._stopping and task is not None and not task.cancelling():
            job = await queue.get()
            try:
                await job()
            except Exception as error:
                if self.is_stopping():
                    log.warning("lane.job_interrupted", subscriber=self._name, error=type(error).__name__)
                else:
                    log.exception("lane.job_failed", subscriber=self._name)
