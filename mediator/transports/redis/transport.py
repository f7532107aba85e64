"""Redis Streams: one stream for each lane, with the envelopes of all topics, and one consumer group for each group.

    redis://user:password@host:6379/0?prefix=shop&lanes=16        rediss:// for TLS

A key has its lane and a lane has one reader of each group, so a key keeps its order over topics and processes. What is
read and not acknowledged stays with the group: whoever reads the lane next, or the same reader after its connection
was lost, begins with that. What every group has acknowledged is cut off; what one of them still has to read never is.
Redis confirms what is in its memory: how much of that a crash takes is a matter of its settings, which `check` reads.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import structlog

from mediator.errors import BrokerError, Fault, PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import ended, every, keep_running
from mediator.messaging.transport import Capabilities, Health, Subscription, lane_of
from mediator.transports.redis.messages import fields_of
from mediator.transports.redis.scripts import ADD, BACKLOG, PROVISION, TRIM
from mediator.transports.redis.server import Server
from mediator.transports.redis.subscription import RedisSubscription

__all__ = ["RedisTransport"]

log = structlog.get_logger(__name__)
_PUBLISH_SECONDS: Final = 10.0
_TRIM_SECONDS: Final = 5.0
# What one call of the script adds: more would keep others from being answered.
_MOST_ENVELOPES, _MOST_BYTES = 200, 1024 * 1024
_NO_STREAM: Final = "the stream is gone"

# Its name in INFO or CONFIG, the values that break a promise, its name for people, why, and what to set.
_SETTINGS: Final = (
    ("aof_enabled", "0", "appendonly", "is off: a crash takes all that was confirmed since the last snapshot", "yes"),
    ("appendfsync", "no", "appendfsync", "is no: a loss of power takes about half a minute", "everysec, or always"),
    (
        "maxmemory_policy",
        "(?!noeviction).*",
        "maxmemory-policy",
        "is not noeviction: it may throw events away when its memory is full",
        "noeviction",
    ),
)


class RedisTransport:
    """Over Redis Streams."""

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self.name = self._server.name
        self.capabilities = Capabilities(durable=True, ordered=True, wildcards=True, lanes=self._server.lanes)
        self._known: set[str] = set()
        """Topics that were provisioned, as far as this process has asked."""
        self._made: tuple[set[str], set[str]] = set(), set()
        """Topics and groups that this process has provisioned."""
        self._to_trim: set[int] = set()
        self._trimming: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect."""
        await self._server.open()
        loop = every(_TRIM_SECONDS, self._trim)
        self._trimming = asyncio.create_task(keep_running("redis.trim", loop), name="redis.trim")

    async def close(self) -> None:
        """Disconnect."""
        if self._trimming is not None:
            self._trimming.cancel()
            await ended([self._trimming])
            self._trimming = None
        await self._server.close()

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        """Make the streams of all lanes, and the groups on each of them; a new group begins with what comes next."""
        try:
            if create:
                await self._make(topics, groups, begin="$")
                return
            await self._server.check_lanes()
            there = await self._groups()
            lacking = [f"the topic {topic}" for topic in sorted(await self._unknown(topics))]
            lacking += [f"the group {group}" for group in sorted(groups) if group not in there]
        except TransportUnavailableError as error:
            raise self._server.broken(f"cannot be provisioned ({error.why})", "See what it says") from error
        if lacking:
            raise self._lacking(", ".join(lacking))

    async def check(self) -> Sequence[Fault]:
        """Whether it keeps what it confirms and throws nothing away; what it does not tell is passed over."""
        facts: dict[str, Any] = {}
        with suppress(TransportUnavailableError):
            facts |= await self._server.ask("INFO", "persistence")
            facts |= await self._server.ask("INFO", "memory")
            name, value = await self._server.ask("CONFIG", "GET", "appendfsync")
            facts[name.decode()] = value.decode()
        return [
            Fault("broker", f"{self._server.address}, {setting}", what, f"Set {setting} {better}")
            for name, bad, setting, what, better in _SETTINGS
            if (found := str(facts.get(name, ""))) and re.fullmatch(bad, found)
        ]

    async def health(self) -> Health:
        """Send a PING."""
        clock = asyncio.get_running_loop().time
        began, detail = clock(), ""
        try:
            await self._server.ask("PING")
        except TransportUnavailableError as error:
            detail = error.why
        return Health(not detail, timedelta(seconds=clock() - began), detail)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Add each envelope to the stream of its lane."""
        until = asyncio.get_running_loop().time() + _PUBLISH_SECONDS
        try:
            unknown = await self._unpublishable({envelope.topic for envelope in batch})
        except TransportUnavailableError as error:
            for envelope in batch:
                yield envelope, error
            return
        lanes, refused = self._sorted(batch, unknown)
        for outcome in refused:
            yield outcome
        while lanes:
            heads = {lane: _head(waiting) for lane, waiting in lanes.items()}
            for lane, (added, failure) in (await self._add(heads, until)).items():
                for envelope in heads[lane][:added]:
                    yield envelope, None
                if failure is not None:
                    for envelope in [*heads[lane][added:], *lanes.pop(lane)]:
                        yield envelope, failure
            lanes = {lane: waiting for lane, waiting in lanes.items() if waiting}

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        """What they have not acknowledged; what their members are going to pass over counts until then."""
        lanes = map(self._server.lane, range(self._server.lanes))
        answers = await self._server.ask_together([("EVAL", BACKLOG, 1, lane, *groups) for lane in lanes])
        found = Counter(dict.fromkeys(groups, 0))
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._server.unavailable(answer) from answer
            found.update(dict(zip(groups, answer, strict=True)))
        return found

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        """Join `group`, for the lanes that it is told to take."""
        if group not in await self._groups():
            raise self._lacking(f"the group {group}")
        return RedisSubscription(self._server, group, topics, prefetch, self._to_trim, self._make_again)

    def _sorted(
        self, batch: Sequence[Envelope], unknown: Collection[str]
    ) -> tuple[dict[int, deque[Envelope]], list[tuple[Envelope, Exception]]]:
        """What to add to which lane, and what is refused: of a key, all after its first that is."""
        lanes: dict[int, deque[Envelope]] = {}
        refused: list[tuple[Envelope, Exception]] = []
        failed: dict[str, Exception] = {}
        for envelope in batch:
            error = None if envelope.key is None else failed.get(envelope.key)
            if error is None and envelope.topic in unknown:
                error = PublishRefusedError(self.name, envelope.topic, "this topic was not provisioned")
                if envelope.key is not None:
                    failed[envelope.key] = error
            if error is None:
                lanes.setdefault(lane_of(envelope, self._server.lanes), deque()).append(envelope)
            else:
                refused.append((envelope, error))
        return lanes, refused

    async def _add(
        self, heads: Mapping[int, Sequence[Envelope]], until: float
    ) -> dict[int, tuple[int, TransportUnavailableError | None]]:
        """Add to several lanes at once; how many of each were added, and why not all."""
        commands = [_command(self._server.lane(lane), head) for lane, head in heads.items()]
        self._to_trim.update(heads)
        try:
            answers = await self._server.ask_together(commands, until - asyncio.get_running_loop().time())
        except TransportUnavailableError as error:
            return dict.fromkeys(heads, (0, error))
        found: dict[int, tuple[int, TransportUnavailableError | None]] = {}
        for lane, answer in zip(heads, answers, strict=True):
            added, why = (0, str(answer)) if isinstance(answer, Exception) else (answer[0], answer[1].decode())
            found[lane] = added, self._server.unavailable(why) if why else None
            if why and why != _NO_STREAM:
                await self._server.refused(why)
        if any(error is not None and error.why.endswith(_NO_STREAM) for _, error in found.values()):
            await self._make_again()
        return found

    async def _make(self, topics: Collection[str], groups: Collection[str], begin: str) -> None:
        server = self._server
        keys = [server.settings, server.topics, *map(server.lane, range(server.lanes))]
        lanes = await server.run(PROVISION, keys, server.lanes, begin, len(topics), *topics, *groups)
        if int(lanes) != server.lanes:
            await server.check_lanes()
        self._made[0].update(topics)
        self._made[1].update(groups)

    async def _make_again(self) -> None:
        """Make what this process has made before, when it is gone: the broker forgot it, or somebody emptied it.

        The groups begin with the first that is there: they were provisioned before it was published.
        """
        self._known.clear()
        if any(self._made):
            with suppress(TransportUnavailableError):
                await self._make(*self._made, begin="0")
                log.warning("transport.provisioned_again", transport=self.name, broker=self._server.address)

    async def _unpublishable(self, topics: Collection[str]) -> set[str]:
        unknown = await self._unknown(topics)
        if unknown and not await self._server.ask("EXISTS", self._server.settings):
            # Nothing is wrong with the envelopes when all of it is gone.
            await self._make_again()
            raise self._server.unavailable(f"nothing is provisioned under the prefix {self._server.prefix!r}")
        return unknown

    async def _unknown(self, topics: Collection[str]) -> set[str]:
        if new := [topic for topic in topics if topic not in self._known]:
            known = await self._server.ask("SMISMEMBER", self._server.topics, *new)
            self._known.update(topic for topic, is_known in zip(new, known, strict=True) if is_known)
        return set(topics) - self._known

    async def _groups(self) -> set[str]:
        """The groups that every lane has."""
        lanes = range(self._server.lanes)
        answers = await self._server.ask_together([("XINFO", "GROUPS", self._server.lane(lane)) for lane in lanes])
        on_each = [set() if isinstance(answer, Exception) else {facts[1] for facts in answer} for answer in answers]
        return {name.decode(errors="replace") for name in set.intersection(*on_each)}

    async def _trim(self) -> None:
        """Cut off what every group has acknowledged, in the lanes where something happened."""
        lanes = sorted(self._to_trim)
        self._to_trim.clear()
        with suppress(TransportUnavailableError):
            await self._server.ask_together([("EVAL", TRIM, 1, self._server.lane(lane)) for lane in lanes])

    def _lacking(self, what: str) -> BrokerError:
        return self._server.broken(
            f"lacks {what} under the prefix {self._server.prefix!r}", "Have them provisioned by an application that may"
        )


def _head(waiting: deque[Envelope]) -> list[Envelope]:
    """Take the first ones, as many as are added in one go."""
    head, size = [waiting.popleft()], 0
    while waiting and len(head) < _MOST_ENVELOPES and (size := size + len(head[-1].body)) < _MOST_BYTES:
        head.append(waiting.popleft())
    return head


def _command(stream: str, head: Sequence[Envelope]) -> list[Any]:
    command: list[Any] = ["EVAL", ADD, 1, stream]
    for envelope in head:
        fields = fields_of(envelope)
        command += [len(fields), *fields]
    return command
