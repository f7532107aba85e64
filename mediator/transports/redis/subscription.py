"""A member of a group on Redis: hands out what it reads in its lanes, and acknowledges what is settled.

Each lane has an owner, and Redis reads for the owner only (`ownership`). So whoever took a lane last is the one that
reads it, however long others go on trying, and has begun with all that was read before and not settled. Nothing is read
ahead: what a fetch does not return is not taken from the stream.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from mediator.errors import TransportUnavailableError
from mediator.messaging.patterns import listens
from mediator.messaging.supervision import happens
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.redis.messages import delivery_of, is_ours, topic_of
from mediator.transports.redis.ownership import BEGINNING, UNREAD, Entry, Lane, Ownership, shares
from mediator.transports.redis.server import NotProvisioned, Server

__all__ = ["RedisSubscription"]

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_YIELD_SECONDS: Final = 5.0
"""How long a lane is left to somebody who took it without our having given it up."""
_LONGEST_WAIT_SECONDS: Final = 5.0


class RedisSubscription:
    """One member of a group."""

    def __init__(
        self,
        server: Server,
        group: str,
        topics: Sequence[str],
        prefetch: int,
        to_trim: set[int],
        make_again: Callable[[], Awaitable[None]],
    ) -> None:
        self._server, self._group, self._prefetch = server, group, prefetch
        self._topics = set(topics)
        self._to_trim, self._make_again = to_trim, make_again
        self._ownership = Ownership(server, group)
        self._lanes: dict[int, Lane] = {}
        self._unsettled: dict[Delivery, bytes] = {}
        self._given_back: deque[tuple[Delivery, bytes]] = deque()
        self._done: list[tuple[int, bytes]] = []
        self._fetching, self._acknowledging = asyncio.Lock(), asyncio.Lock()
        self._changed = asyncio.Event()
        self._epoch, self._last_read = 0, 0
        self._closed = False

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        """What is waiting in our lanes; nothing while there is no connection."""
        clock = asyncio.get_running_loop().time
        until, pause = clock() + timeout.total_seconds(), _SHORTEST_PAUSE_SECONDS
        async with self._fetching:
            while not self._closed:
                self._changed.clear()
                try:
                    if found := await self._read(min(at_most, self._prefetch - len(self._unsettled))):
                        return found
                    if (left := until - clock()) <= 0:
                        break
                    await self._wait(min(left, _LONGEST_WAIT_SECONDS))
                except (TransportUnavailableError, NotProvisioned) as error:
                    self._lose()
                    if isinstance(error, NotProvisioned):
                        await self._make_again()
                    if (left := until - clock()) <= 0:
                        break
                    await happens(self._changed, min(pause, left))
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return []

    async def take(self, lanes: Collection[int]) -> None:
        """Read these lanes; a new one is taken from whoever has it when it is read for the first time."""
        wanted = set(lanes)
        self._lanes = {lane: self._lanes.get(lane) or Lane(lane) for lane in sorted(wanted)}
        self._given_back = deque(item for item in self._given_back if item[0].lane in wanted)
        self._changed.set()

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Acknowledge, or keep it to be fetched again."""
        for delivery, settlement in outcomes:
            entry = self._unsettled.pop(delivery, None)
            if entry is None:
                continue
            self._changed.set()
            if settlement is not Settlement.GIVE_BACK:
                self._done.append((delivery.lane, entry))
            elif delivery.lane in self._lanes:
                self._given_back.append((replace(delivery, attempt=delivery.attempt + 1), entry))
        await self._acknowledge()

    async def widen(self, topics: Sequence[str]) -> None:
        """Let these topics pass as well."""
        self._topics.update(topics)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing expires: a lane has one owner."""

    async def close(self) -> None:
        """Leave what is unsettled to the next owners."""
        self._closed = True
        self._changed.set()
        await self._acknowledge()
        self._lose()
        self._lanes.clear()
        async with self._fetching:
            await self._ownership.close()

    async def _read(self, room: int) -> list[Delivery]:
        if room <= 0:
            return []
        if self._given_back:
            again = [self._given_back.popleft() for _ in range(min(room, len(self._given_back)))]
            self._unsettled.update(again)
            return [delivery for delivery, _ in again]
        found: list[Delivery] = []
        empty: set[Lane] = set()
        while not found:
            await self._own()
            if not (lanes := self._next_lanes(empty)):
                break
            empty |= await self._read_lanes(shares(lanes, room), found)
        if self._done:
            await self._acknowledge()
        return found

    async def _own(self) -> None:
        """Become the owner of lanes that we are to take."""
        now = asyncio.get_running_loop().time()
        if lanes := [lane for lane in self._lanes.values() if not lane.owner and lane.rests_until <= now]:
            await self._ownership.take(lanes)

    def _owned(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.owner]

    def _next_lanes(self, empty: Collection[Lane]) -> list[Lane]:
        """Ours, but those that are empty; first those that come after the last that was read."""
        lanes = [lane for lane in self._owned() if lane not in empty]
        return sorted(lanes, key=lambda lane: lane.number <= self._last_read)

    async def _read_lanes(self, wanted: Mapping[Lane, int], found: list[Delivery]) -> set[Lane]:
        """Read in these lanes, once; those that had nothing for us."""
        try:
            answers = await self._ownership.read(wanted)
        except BaseException:
            # What the lost answer had is read, and unsettled.
            for lane in wanted:
                lane.begin = BEGINNING
            raise
        empty: set[Lane] = set()
        for lane, entries in answers.items():
            self._last_read = lane.number
            if self._lanes.get(lane.number) is not lane:
                continue
            if entries is None:
                await self._lost(lane)
            else:
                # Those that we have are unsettled as well.
                held = self._held(lane.number) if lane.begin != UNREAD else ()
                if lane.begin == UNREAD and not entries:
                    empty.add(lane)
                self._go_on(lane, entries)
                for entry in entries:
                    if entry.id not in held:
                        found += self._arrived(lane, entry)
        return empty

    @staticmethod
    def _go_on(lane: Lane, entries: Sequence[Entry]) -> None:
        """Read on after these; after the last of the unsettled with what nobody has read."""
        lane.found = len(entries)
        if lane.begin == UNREAD:
            lane.read = entries[-1].id.decode() if entries else lane.read
        elif entries:
            lane.begin = entries[-1].id.decode()
        else:
            lane.begin = UNREAD

    async def _lost(self, lane: Lane) -> None:
        """Somebody took the lane after us, or the broker was set back to before we did: whoever is told to, takes it.

        It is left to the other for a while, for one of us is about to be told that it is not ours any more.
        """
        if await self._ownership.owner(lane) > lane.owner:
            lane.rests_until = asyncio.get_running_loop().time() + _YIELD_SECONDS
        lane.owner = 0

    def _held(self, lane: int) -> set[bytes]:
        return {
            *(entry for delivery, entry in (*self._unsettled.items(), *self._given_back) if delivery.lane == lane),
            *(entry for number, entry in self._done if number == lane),
        }

    def _arrived(self, lane: Lane, entry: Entry) -> Iterator[Delivery]:
        """The delivery, unless nobody here listens to it."""
        fields, stream = entry.fields, self._server.lane(lane.number)
        # Somebody may have deleted it, or added something that has no topic.
        if fields is None or (is_ours(fields) and not listens(self._topics, topic_of(fields))):
            self._done.append((lane.number, entry.id))
            return
        delivery = delivery_of(fields, stream, lane=lane.number, attempt=entry.arrival, epoch=self._epoch)
        self._unsettled[delivery] = entry.id
        yield delivery

    async def _wait(self, seconds: float) -> None:
        """Until something is added to our lanes, or changes here."""
        lanes = self._owned() if len(self._unsettled) < self._prefetch else []
        tasks = [asyncio.create_task(self._changes())]
        if lanes:
            tasks.append(asyncio.create_task(self._ownership.more(lanes, seconds)))
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, TransportUnavailableError):
                raise end

    async def _changes(self) -> None:
        await self._changed.wait()

    async def _acknowledge(self) -> None:
        """Tell what is done; those who come while others are being told of wait, and go together."""
        async with self._acknowledging:
            done, epoch = list(self._done), self._epoch
            if not done:
                return
            lanes: dict[int, list[bytes]] = {}
            for lane, entry in done:
                lanes.setdefault(lane, []).append(entry)
            commands = [("XACK", self._server.lane(lane), self._group, *entries) for lane, entries in lanes.items()]
            try:
                await self._server.ask_together(commands)
            except TransportUnavailableError:
                self._lose()
            if epoch == self._epoch:
                del self._done[: len(done)]
                self._to_trim.update(lanes)

    def _lose(self) -> None:
        """Everything that is unsettled comes again, in order; what was fetched before counts no more."""
        self._epoch += 1
        self._unsettled.clear()
        self._given_back.clear()
        self._done.clear()
        for lane in self._lanes.values():
            lane.begin = BEGINNING
