"""Reading lanes of Redis Streams for a group: as their owner, from what is unsettled on.

Each lane has an owner, by a number that grows, and a script reads for the owner only. So whoever took a lane last is
the one that reads it, however long others go on trying, and has begun with all that was read before and not settled.
Nothing is read ahead: what a fetch does not return is not taken from the stream.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from mediator.errors import TransportUnavailableError
from mediator.messaging.patterns import listens
from mediator.messaging.supervision import happens
from mediator.messaging.transport import Delivery, Settlement
from mediator.transports.redis.messages import delivery_of, is_ours, topic_of
from mediator.transports.redis.scripts import READ, TAKE
from mediator.transports.redis.server import ANSWER_SECONDS, NotProvisioned, Server

__all__ = ["RedisSubscription"]

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_YIELD_SECONDS: Final = 5.0
"""How long a lane is left to somebody who took it without our having given it up."""
_LONGEST_WAIT_SECONDS: Final = 5.0

_FROM_THE_UNSETTLED, _UNREAD = "0", ">"


@dataclass(eq=False, slots=True)
class _Lane:
    """A lane that we have been told to take."""

    number: int = 0
    """Ours as its owner; 0 before we are."""
    begin: str = "0"
    """Where to go on reading: after this one of the unsettled, or with what nobody has read."""
    read: str = "0-0"
    """The last that the group has read, as far as we know: waiting is for what comes after it."""
    rests_until: float = 0.0


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
        self._connection = server.connection()
        self._lanes: dict[int, _Lane] = {}
        self._unsettled: dict[Delivery, bytes] = {}
        self._given_back: deque[tuple[Delivery, bytes]] = deque()
        self._done: list[tuple[int, bytes]] = []
        self._fetching, self._acknowledging = asyncio.Lock(), asyncio.Lock()
        self._changed = asyncio.Event()
        self._epoch, self._turn = 0, 0
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
        self._lanes = {lane: self._lanes.get(lane) or _Lane() for lane in sorted(wanted)}
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
            await self._server.disconnect(self._connection)

    async def _read(self, room: int) -> list[Delivery]:
        if room <= 0:
            return []
        if self._given_back:
            again = [self._given_back.popleft() for _ in range(min(room, len(self._given_back)))]
            self._unsettled.update(again)
            return [delivery for delivery, _ in again]
        await self._own()
        found: list[Delivery] = []
        while not found and await self._read_lanes(self._owned(), room, found):
            pass
        if self._done:
            await self._acknowledge()
        return found

    def _owned(self) -> dict[int, _Lane]:
        """Our lanes, another one first each time, so that none has to wait for the others to be empty."""
        self._turn += 1
        lanes = [number for number, lane in self._lanes.items() if lane.number]
        turn = self._turn % max(len(lanes), 1)
        return {number: self._lanes[number] for number in lanes[turn:] + lanes[:turn]}

    async def _own(self) -> None:
        """Become the owner of lanes that we are to take."""
        now = asyncio.get_running_loop().time()
        lanes = {number: lane for number, lane in self._lanes.items() if not lane.number and lane.rests_until <= now}
        if lanes:
            ours, read = await self._server.run(TAKE, self._keys(lanes), self._group, on=self._connection)
            for lane, last in zip(lanes.values(), read, strict=True):
                lane.number, lane.begin, lane.read = ours, _FROM_THE_UNSETTLED, last.decode()

    async def _read_lanes(self, lanes: Mapping[int, _Lane], room: int, found: list[Delivery]) -> bool:
        """Read once; whether there may be more to read, or something was."""
        if not lanes:
            return False
        progress = [part for lane in lanes.values() for part in (lane.number, lane.begin)]
        try:
            keys = self._keys(lanes)
            answers = await self._server.run(READ, keys, self._group, room, *progress, on=self._connection)
        except BaseException:
            # What the lost answer had is read, and unsettled.
            for lane in lanes.values():
                lane.begin = _FROM_THE_UNSETTLED
            raise
        goes_on = False
        for (number, lane), (owner, was_read, entries) in zip(lanes.items(), answers, strict=True):
            if self._lanes.get(number) is not lane:
                continue
            if owner != str(lane.number).encode():
                self._lost_to(lane, owner)
                continue
            goes_on = goes_on or bool(entries) or (bool(was_read) and lane.begin != _UNREAD)
            # Those that we have are unsettled as well.
            held = self._held(number) if lane.begin != _UNREAD else ()
            if was_read:
                self._go_on(lane, entries)
            for entry in entries:
                if entry[0] not in held:
                    found += self._arrived(number, entry)
        return goes_on

    @staticmethod
    def _go_on(lane: _Lane, entries: Sequence[Any]) -> None:
        """Read on after these; after the last of the unsettled with what nobody has read."""
        if lane.begin == _UNREAD:
            lane.read = entries[-1][0].decode() if entries else lane.read
        elif entries:
            lane.begin = entries[-1][0].decode()
        else:
            lane.begin = _UNREAD

    @staticmethod
    def _lost_to(lane: _Lane, owner: bytes) -> None:
        """Somebody took the lane after us, or the broker was set back to before we did: whoever is told to, takes it.

        It is left to the other for a while, for one of us is about to be told that it is not ours any more.
        """
        if owner and int(owner) > lane.number:
            lane.rests_until = asyncio.get_running_loop().time() + _YIELD_SECONDS
        lane.number = 0

    def _held(self, lane: int) -> set[bytes]:
        return {
            *(entry for delivery, entry in (*self._unsettled.items(), *self._given_back) if delivery.lane == lane),
            *(entry for number, entry in self._done if number == lane),
        }

    def _arrived(self, lane: int, entry: tuple[bytes, Sequence[bytes] | None, int]) -> Iterator[Delivery]:
        """The delivery, unless nobody here listens to it."""
        identity, fields, attempt = entry
        # Somebody may have deleted it, or added something that has no topic.
        if fields is None or (is_ours(fields) and not listens(self._topics, topic_of(fields))):
            self._done.append((lane, identity))
            return
        delivery = delivery_of(fields, self._server.lane(lane), lane=lane, attempt=attempt, epoch=self._epoch)
        self._unsettled[delivery] = identity
        yield delivery

    async def _wait(self, seconds: float) -> None:
        """Until something is added to our lanes, or changes here."""
        lanes = self._owned() if len(self._unsettled) < self._prefetch else {}
        tasks = [asyncio.create_task(self._changes())]
        if lanes:
            tasks.append(asyncio.create_task(self._more_comes(lanes, seconds)))
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

    async def _more_comes(self, lanes: Mapping[int, _Lane], seconds: float) -> None:
        streams = {self._server.lane(number).encode(): lane for number, lane in lanes.items()}
        ids = [lane.read for lane in lanes.values()]
        milliseconds = max(int(seconds * 1000), 1)
        command = ("XREAD", "BLOCK", milliseconds, "COUNT", 1, "STREAMS", *streams, *ids)
        # Waiting takes nothing from a stream, so it may be broken off.
        for stream, entries in await self._server.ask(*command, seconds=seconds + ANSWER_SECONDS, on=self._connection):
            streams[stream].read = entries[-1][0].decode()

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
            lane.begin = _FROM_THE_UNSETTLED

    def _keys(self, lanes: Mapping[int, _Lane]) -> list[str]:
        return [self._server.owners(self._group), *map(self._server.lane, lanes)]
