"""Lanes: how many events of one handler are under way at once, and which of them one after the other.

Events of one key stand in one lane and are handled in the order of their arrival, and two deliveries of one event do
not meet. As many workers as the handler may have at once take the lanes in turn, so that an event which hangs holds
back its own key and nothing else. When every worker hangs, what waits is set aside: it must not fill the room that the
other handlers share. What waits is bounded by the consumer, which fetches no more than its prefetch.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Generic, Protocol, TypeVar

import structlog

from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import ended

__all__ = ["Lanes", "Work"]

log = structlog.get_logger(__name__)
_Job = Callable[[], Awaitable[None]]
P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)


class Work(Protocol[P_contra]):
    """What a worker does with arrivals that waited."""

    def __call__(self, parts: Sequence[P_contra], *, set_aside: bool) -> Awaitable[None]:
        """Handle them, several in one transaction; or only set them aside, to be handled later."""
        ...


@dataclass(frozen=True, slots=True)
class _Alone:
    """What is never done together with others."""

    job: _Job


class Lanes(Generic[P]):
    """The lanes of one subscriber."""

    def __init__(
        self, name: str, work: Work[P], monotonic: Callable[[], float], *, workers: int, together: int = 1
    ) -> None:
        self._name, self._work, self._monotonic = name, work, monotonic
        self._workers, self._together = workers, together
        self._lanes: dict[object, deque[P | _Alone]] = {}
        """Every lane in which something waits or is under way."""
        self._ready: asyncio.PriorityQueue[tuple[int, object]] = asyncio.PriorityQueue()
        """Lanes in which something waits and nothing is under way, the longest waiting first."""
        self._turns, self._busy, self._last_began = count(), 0, 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def is_stopping(self) -> bool:
        """Whether what runs is cancelled; to be asked after every error, for one may take the cancellation's place."""
        return self._stopping

    def start(self) -> None:
        """Begin to work, unless it has."""
        self._tasks = self._tasks or [self._begin(number) for number in range(self._workers)]

    def put(self, envelope: Envelope, part: P) -> None:
        """Do the work on `part` after everything that was put before it for the envelope's key."""
        self._put(envelope, part)

    def put_alone(self, envelope: Envelope, job: _Job) -> None:
        """Do `job`, and nothing together with it, after everything that was put before it for the envelope's key."""
        self._put(envelope, _Alone(job))

    async def relieve(self, after: timedelta) -> None:
        """When every worker has been at its event for so long, set aside what waits."""
        while self._is_stuck(after):
            keys = [self._ready.get_nowait()[1] for _ in range(self._ready.qsize())]
            parts = [part for key in keys for part in self._without_jobs(key)]
            try:
                if not parts:
                    return
                log.warning("lane.set_aside", subscriber=self._name, events=len(parts))
                await self._work(parts, set_aside=True)
            finally:
                self._release(keys)

    async def stop(self) -> None:
        """Cancel what is running; what waits is dropped, and settled by whoever put it there."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)

    def _without_jobs(self, key: object) -> list[P]:
        """Empty a lane but for its jobs, which are retries: what is set aside now comes after them all the same."""
        lane = self._lanes[key]
        self._lanes[key] = deque(item for item in lane if isinstance(item, _Alone))
        return [item for item in lane if not isinstance(item, _Alone)]

    def _is_stuck(self, after: timedelta) -> bool:
        for_seconds = self._monotonic() - self._last_began
        return not self._stopping and self._busy == self._workers and for_seconds > after.total_seconds()

    def _put(self, envelope: Envelope, item: P | _Alone) -> None:
        key = envelope.event_id if envelope.key is None else envelope.key
        if key in self._lanes:
            self._lanes[key].append(item)
        else:
            self._lanes[key] = deque([item])
            self._make_ready(key)

    def _make_ready(self, key: object) -> None:
        self._ready.put_nowait((next(self._turns), key))

    def _release(self, keys: Sequence[object]) -> None:
        """Nothing is under way in these lanes any more."""
        for key in keys:
            if self._lanes[key]:
                self._make_ready(key)
            else:
                del self._lanes[key]

    def _take(self, at_most: int) -> tuple[list[object], list[P]]:
        """Arrivals at the heads of lanes that are ready, and the lanes; what is to be done alone keeps its turn."""
        keys: list[object] = []
        parts: list[P] = []
        passed = []
        while len(parts) < at_most and not self._ready.empty():
            turn = self._ready.get_nowait()
            key = turn[1]
            found = self._leading(self._lanes[key], at_most - len(parts))
            if found:
                keys.append(key)
                parts.extend(found)
            else:
                passed.append(turn)
        for turn in passed:
            self._ready.put_nowait(turn)
        return keys, parts

    @staticmethod
    def _leading(lane: deque[P | _Alone], at_most: int) -> list[P]:
        found: list[P] = []
        while lane and len(found) < at_most and not isinstance(first := lane[0], _Alone):
            found.append(first)
            lane.popleft()
        return found

    async def _next(self) -> tuple[list[object], Awaitable[None]]:
        """Wait for something to do; gives the lanes that it comes from, and the doing."""
        turn = await self._ready.get()
        lane = self._lanes[turn[1]]
        if isinstance(first := lane[0], _Alone):
            lane.popleft()
            return [turn[1]], first.job()
        self._ready.put_nowait(turn)
        keys, parts = self._take(self._together)
        return keys, self._work(parts, set_aside=False)

    def _begin(self, number: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(), name=f"lane.{self._name}.{number}")
        task.add_done_callback(lambda _: self._go_on(number))
        return task

    def _go_on(self, number: int) -> None:
        """A library that cancels the task which it runs in ends a worker: a new one takes its place."""
        if not self._stopping:
            log.warning("lane.cancelled", subscriber=self._name)
            self._tasks[number] = self._begin(number)

    async def _run(self) -> None:
        task = asyncio.current_task()
        # Once it was cancelled it is of no use any more: libraries go by the number of requests.
        while not self._stopping and task is not None and not task.cancelling():
            keys, doing = await self._next()
            self._busy, self._last_began = self._busy + 1, self._monotonic()
            try:
                await doing
            except Exception as error:
                if self.is_stopping():
                    log.warning("lane.job_interrupted", subscriber=self._name, error=type(error).__name__)
                else:
                    log.exception("lane.job_failed", subscriber=self._name)
            finally:
                self._busy -= 1
                self._release(keys)
