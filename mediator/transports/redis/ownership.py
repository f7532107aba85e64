"""Reading lanes of Redis Streams for a group as their owner: nobody else gets anything.

Who takes a lane gets a ticket for it, an empty stream with a number of its own, and the ticket of the owner before is
torn up. Reading shows the ticket: XREADGROUP gives nothing of any stream that it names when one of them is not there.
So the check and the reading are one command. A script that checks first costs five times as much (decision 0025).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from mediator.transports.redis.scripts import TAKE
from mediator.transports.redis.server import ANSWER_SECONDS, Server

__all__ = ["BEGINNING", "UNREAD", "Entry", "Found", "Lane", "Ownership", "shares"]

BEGINNING: Final = "0"
"""Go on with the first that is unsettled."""
UNREAD: Final = ">"
"""Go on with what nobody has read."""


@dataclass(eq=False, slots=True)
class Lane:
    """A lane that a member of the group has been told to take."""

    number: int
    owner: int = 0
    """Our number as its owner; 0 before we are."""
    begin: str = BEGINNING
    """Where to go on reading: after this one of the unsettled, or with what nobody has read."""
    read: str = "0-0"
    """The last that the group has read, as far as we know: waiting is for what comes after it."""
    found: int = 0
    """How many the last look found."""
    rests_until: float = 0.0
    """A moment by the loop's clock: until then it is left to somebody else."""


class Entry(NamedTuple):
    """What a lane holds; no fields when somebody has deleted it."""

    id: bytes
    fields: Sequence[bytes] | None
    arrival: int
    """Which of its arrivals this is, from 1 on."""


Found: TypeAlias = list[Entry] | None
"""What was read of a lane; None when it is not ours any more."""


class Ownership:
    """The lanes of a group, through a connection of one's own."""

    def __init__(self, server: Server, group: str) -> None:
        self._server, self._group = server, group
        self._connection = server.connection()

    async def take(self, lanes: Sequence[Lane]) -> None:
        """Become the owner of these lanes, and go on with what its former owner has not settled."""
        keys = [self._server.owners(self._group), *(self._server.lane(lane.number) for lane in lanes)]
        number, read = await self._server.run(TAKE, keys, self._group, on=self._connection)
        for lane, last in zip(lanes, read, strict=True):
            lane.owner, lane.begin, lane.read = number, BEGINNING, last.decode()

    async def read(self, wanted: Mapping[Lane, int]) -> dict[Lane, Found]:
        """Read so many of each of these lanes; None for one that is not ours any more."""
        again = [lane for lane in wanted if lane.begin != UNREAD]
        commands = [self._read(lane, count) for lane, count in wanted.items()]
        commands += [self._arrivals_of(lane, wanted[lane]) for lane in again]
        answers = await self._server.ask_together(commands, on=self._connection)
        arrivals = dict(zip(again, answers[len(wanted) :], strict=True))
        found: dict[Lane, Found] = {}
        for lane, answer in zip(wanted, answers, strict=False):
            if isinstance(answer, ResponseError) and self._ticket(lane) in str(answer):
                found[lane] = None
            elif isinstance(answer, ResponseError):
                raise await self._server.failed(answer)
            elif isinstance(arrivals.get(lane), ResponseError):
                raise await self._server.failed(arrivals[lane])
            else:
                found[lane] = _entries(answer, arrivals.get(lane, ()))
        return found

    async def owner(self, lane: Lane) -> int:
        """The number of whoever has a lane now; 0 when Redis knows of nobody."""
        key = self._server.lane(lane.number)
        return int(await self._server.ask("HGET", self._server.owners(self._group), key, on=self._connection) or 0)

    async def more(self, lanes: Sequence[Lane], seconds: float) -> None:
        """Wait until there is something that the group has not read, so far as we know, and note it as known.

        Waiting takes nothing from a stream, so it may be broken off.
        """
        streams = {self._server.lane(lane.number).encode(): lane for lane in lanes}
        milliseconds = max(int(seconds * 1000), 1)
        command = ("XREAD", "BLOCK", milliseconds, "COUNT", 1, "STREAMS", *streams, *(lane.read for lane in lanes))
        seconds += ANSWER_SECONDS
        for stream, entries in await self._server.ask(*command, seconds=seconds, on=self._connection):
            streams[stream].read = entries[-1][0].decode()

    async def close(self) -> None:
        """Disconnect; the lanes stay ours until somebody takes them."""
        await self._server.disconnect(self._connection)

    def _read(self, lane: Lane, count: int) -> tuple[Any, ...]:
        streams = (self._ticket(lane), self._server.lane(lane.number))
        return ("XREADGROUP", "GROUP", self._group, "owner", "COUNT", count, "STREAMS", *streams, UNREAD, lane.begin)

    def _arrivals_of(self, lane: Lane, count: int) -> tuple[Any, ...]:
        return ("XPENDING", self._server.lane(lane.number), self._group, f"({lane.begin}", "+", count)

    def _ticket(self, lane: Lane) -> str:
        return f"{self._server.lane(lane.number)}:{self._group}:{lane.owner}"


def _entries(answer: Sequence[Any] | None, pending: Sequence[Sequence[Any]]) -> list[Entry]:
    """What was read of a lane, beside its ticket, of which nothing ever is."""
    arrivals = {identity: arrival for identity, _, _, arrival in pending}
    return [
        Entry(identity, fields, arrivals.get(identity, 1))
        for _, entries in answer or ()
        for identity, fields in entries
    ]


def shares(lanes: Sequence[Lane], room: int) -> dict[Lane, int]:
    """How many to read of each lane: more of those that had more; only the first ones when there is little room."""
    weights, left, found = sum(lane.found + 1 for lane in lanes), room, {}
    for lane in lanes[:room]:
        found[lane] = min(max(room * (lane.found + 1) // weights, 1), left)
        left -= found[lane]
        if not left:
            break
    return found
