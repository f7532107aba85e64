"""A member of a group on sql://: reads the lanes that it was given ahead of its handlers, and removes what is settled.

    load    in the background: what waits in its lanes, a prefetch ahead, and marks it as handed out
    note    in the background: what was acknowledged meanwhile is removed, in groups; a load takes along what there is

It looks into a lane when it was told of rows there, by a publication in this process or by a notification, when the
last look left some, and from time to time. A lane that is given up in order leaves no mark but for what is unsettled.
"""

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil
from typing import Any

from mediator.errors import TransportUnavailableError
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.messaging.transport import Delivery, Settlement
from mediator.storage.deliveries import GroupDeliveries, Place
from mediator.transports.sql.line import Line, is_outage

__all__ = ["SqlSubscription"]

_PATIENCE_SECONDS, _LEAVE_SECONDS = 10.0, 5.0
_GATHER_SECONDS = 0.02
_FASTEST_POLL_SECONDS = 0.05
_WATERMARK_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Lane:
    """A lane for as long as it is ours."""

    number: int
    is_taken_over: bool = False
    """Whether what its former owner left is counted."""
    held: set[int] = field(default_factory=set)
    """Positions that were loaded, and are not removed yet."""
    marked: int = 0
    """Up to here what is loaded is marked as handed out."""


class SqlSubscription:
    """One member of a group."""

    def __init__(
        self,
        group: str,
        deliveries: GroupDeliveries,
        line: Line,
        prefetch: int,
        idle_seconds: float,
        widened: Callable[[Sequence[str]], Any],
        closed: Callable[["SqlSubscription"], None],
    ) -> None:
        self.group = group
        self._deliveries, self._line, self._idle_seconds = deliveries, line, idle_seconds
        self._widened, self._closed = widened, closed
        self._prefetch = prefetch
        self._lanes: dict[int, _Lane] = {}
        self._dirty: set[int] = set()
        self._waiting: list[tuple[int, _Lane, Delivery]] = []
        """A heap: what comes first was published first."""
        self._unsettled: dict[Delivery, tuple[_Lane, int]] = {}
        self._acknowledged: list[tuple[_Lane, int]] = []
        self._loading = asyncio.Lock()
        self._ready, self._stirred, self._to_note = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._poll_seconds, self._next_poll, self._next_watermark = _FASTEST_POLL_SECONDS, 0.0, 0.0
        self._tasks = [
            asyncio.create_task(keep_running(name, loop, is_outage=is_outage), name=name)
            for name, loop in ((f"sql.load.{group}", self._run), (f"sql.note.{group}", self._note))
        ]

    @property
    def lanes(self) -> Collection[int]:
        """Those that it has now."""
        return self._lanes.keys()

    def wake(self, lanes: Collection[int]) -> None:
        """Something was committed to these lanes."""
        if mine := self._lanes.keys() & lanes:
            self._dirty.update(mine)
            self._stirred.set()

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What is loaded, in the order of publication; never waits to fill up."""
        clock = asyncio.get_running_loop().time
        end = clock() + timeout.total_seconds()
        while True:
            self._ready.clear()
            if (taken := self._hand_out(at_most)) or clock() >= end:
                return taken
            await happens(self._ready, end - clock())

    async def take(self, lanes: Collection[int]) -> None:
        """Read from these lanes from now on; what is removed or taken back of others is in the database by then."""
        wanted = set(lanes)
        given_up = [self._lanes.pop(number) for number in self._lanes.keys() - wanted]
        for number in wanted - self._lanes.keys():
            self._lanes[number] = _Lane(number)
            self._dirty.add(number)
        self._stirred.set()
        if given_up:
            # What is being loaded is marked as handed out, and will not be.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS), self._loading:
                    pass
            await self._leave(given_up)

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remove soon, or hand out again before anything else of the lane.

        Removed at once is what belongs to a lane that was given up: somebody else may be about to load it.
        """
        was_given_up = False
        for delivery, settlement in outcomes:
            lane, position = self._unsettled.pop(delivery, (None, 0))
            if lane is None:
                continue
            if settlement is not Settlement.GIVE_BACK:
                self._acknowledged.append((lane, position))
                self._to_note.set()
                was_given_up |= self._lanes.get(lane.number) is not lane
            elif self._lanes.get(lane.number) is lane:
                again = replace(delivery, attempt=delivery.attempt + 1)
                heapq.heappush(self._waiting, (position, lane, again))
            self._ready.set()
        if was_given_up:
            await self._note_at_once({})

    async def widen(self, topics: Sequence[str]) -> None:
        """What is routed to the group comes; raises BrokerError for what is not."""
        await self._widened(topics)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing expires: a lane is its owner's until that gives it up, or dies."""

    async def close(self) -> None:
        """Remove what was acknowledged, and leave the rest to whoever takes the lanes."""
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)
        given_up, self._lanes = list(self._lanes.values()), {}
        try:
            await self._leave(given_up)
        finally:
            self._closed(self)

    def _hand_out(self, at_most: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._waiting and len(taken) < at_most and len(self._unsettled) < self._prefetch:
            position, lane, delivery = heapq.heappop(self._waiting)
            self._unsettled[delivery] = lane, position
            taken.append(delivery)
        if taken:
            self._stirred.set()
        return taken

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._stirred.clear()
            if not self._lanes or len(self._waiting) > self._prefetch // 2:
                await self._stirred.wait()
                continue
            if polled := clock() >= self._next_poll:
                self._dirty.update(self._lanes)
            self._dirty &= self._lanes.keys()
            if not self._dirty:
                await happens(self._stirred, self._next_poll - clock())
                continue
            async with self._loading:
                found = await self._load()
            if polled:
                longer = min(self._poll_seconds * 2, self._idle_seconds)
                self._poll_seconds = _FASTEST_POLL_SECONDS if found else longer
                self._next_poll = clock() + self._poll_seconds

    async def _load(self) -> bool:
        """Load what comes first in the lanes that may have something; False when there was nothing."""
        lanes = {number: self._lanes[number] for number in sorted(self._dirty)}
        # Forgotten before the look, so that whatever happens meanwhile marks the lane again.
        self._dirty.clear()
        of_each = ceil((self._prefetch - len(self._waiting)) / len(lanes))
        try:
            await self._prepare(lanes)
            held = {number: lane.held for number, lane in lanes.items()}
            rows = await self._line.within(self._deliveries.fetch(held, of_each), _PATIENCE_SECONDS)
            marks: dict[int, int] = {}
            for row in rows:
                if row["position"] > max(lanes[row["lane"]].marked, marks.get(row["lane"], 0)):
                    marks[row["lane"]] = row["position"]
            if marks:
                # Before anything is handed out: this process may die of it.
                await self._write(marks)
        except BaseException:
            self._dirty.update(lanes)
            raise
        for number, position in marks.items():
            lanes[number].marked = position
        for row in rows:
            lane = lanes[row["lane"]]
            if self._lanes.get(lane.number) is lane:
                lane.held.add(row["position"])
                heapq.heappush(self._waiting, (row["position"], lane, _delivery(row)))
        self._dirty.update(number for number, count in Counter(row["lane"] for row in rows).items() if count == of_each)
        if rows:
            self._ready.set()
        return bool(rows)

    async def _prepare(self, lanes: dict[int, _Lane]) -> None:
        clock = asyncio.get_running_loop().time
        if new := [lane for lane in lanes.values() if not lane.is_taken_over]:
            numbers = [lane.number for lane in new]
            await self._line.within(self._deliveries.take_over(numbers), _PATIENCE_SECONDS)
            for lane in new:
                lane.is_taken_over = True
        if clock() >= self._next_watermark:
            await self._line.within(self._deliveries.advance_watermarks(), _PATIENCE_SECONDS)
            self._next_watermark = clock() + _WATERMARK_SECONDS

    async def _note(self) -> None:
        while True:
            await self._to_note.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._to_note.clear()
            await self._write({})

    async def _write(self, marks: dict[int, int]) -> None:
        """Remove what has been acknowledged by now, and set marks."""
        with self._noting() as places:
            await self._line.within(self._deliveries.note(places, marks), _PATIENCE_SECONDS)

    @contextmanager
    def _noting(self) -> Iterator[Collection[Place]]:
        """What has been acknowledged, to be removed in the block."""
        acknowledged, self._acknowledged = self._acknowledged, []
        try:
            yield [(lane.number, position) for lane, position in acknowledged]
        except BaseException:
            # Tried again: what is removed already is not there, and does no harm.
            self._acknowledged.extend(acknowledged)
            self._to_note.set()
            raise
        for lane, position in acknowledged:
            lane.held.discard(position)

    async def _leave(self, lanes: Collection[_Lane]) -> None:
        """Give lanes up in order: what is not unsettled was handed out to nobody."""
        self._waiting = [entry for entry in self._waiting if entry[1] not in lanes]
        heapq.heapify(self._waiting)
        self._deliveries.disown([lane.number for lane in lanes])
        unsettled = dict.fromkeys(lanes, 0)
        for lane, position in self._unsettled.values():
            if lane in unsettled:
                unsettled[lane] = max(unsettled[lane], position)
        lowered = {lane.number: (lane.marked, to) for lane, to in unsettled.items() if to < lane.marked}
        await self._note_at_once(lowered)

    async def _note_at_once(self, lowered: Mapping[int, tuple[int, int]]) -> None:
        try:
            with self._noting() as places:
                await self._line.insist(lambda: self._deliveries.note(places, {}, lowered), _LEAVE_SECONDS)
        except TransportUnavailableError:
            # Told of by the line. Whoever takes the lanes gets a duplicate, or takes more care than needed.
            return


def _headers(text: str) -> Mapping[str, str]:
    """Somebody may have written to the table: what cannot be read is for the reader to miss."""
    try:
        headers = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {name: str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}


def _delivery(row: Any) -> Delivery:
    return Delivery(
        topic=row["topic"],
        headers=_headers(row["headers"]),
        body=bytes(row["body"]),
        event_id=str(row["event_id"]),
        key=row["partition_key"],
        attempt=row["attempts"] + 1,
        lane=row["lane"],
    )
