"""What stands on the broker, all of it durable, and how to make it or see that it is there.

    exchange PREFIX                          every envelope goes here, with `LANE.TOPIC` as its routing key
    exchange PREFIX.lanes                    says how many lanes there are: its alternate is PREFIX.lanes.NUMBER
    exchange PREFIX.topic.TOPIC              says that the topic is known
    exchange PREFIX.listens.GROUP:PATTERN    says that the group's queues have all their bindings for this pattern
    queue    PREFIX.GROUP.LANE               a group's envelopes of a lane: a quorum queue with a single active consumer

The exchanges that say something carry nothing. They are there because a client can ask a broker whether an exchange
exists, and neither what is bound to a queue nor which topics there are. Unlike a queue that swallows what nobody
listens to, they cost nothing per envelope, and stand on every node of a cluster.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, TypeVar

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Queue

from mediator.errors import BrokerError
from mediator.transports.rabbitmq.connection import REFUSALS, Connection, said

__all__ = ["Names", "Topology", "short"]

T = TypeVar("T")

_LONGEST_NAME: Final = 127
_UNSPEAKABLE: Final = re.compile(r"[^A-Za-z0-9_.:@#,/+ -]")
_HAS_NO_LIMIT: Final = 4


def short(name: str) -> str:
    """The name, or one that is always made of it where it is too long or has a character that AMQP does not know."""
    if len(name) <= _LONGEST_NAME and not _UNSPEAKABLE.search(name):
        return name
    digest = sha256(name.encode()).hexdigest()[:20]
    return f"{_UNSPEAKABLE.sub('_', name)[: _LONGEST_NAME - 21]}@{digest}"


class Names:
    """What things are called."""

    def __init__(self, prefix: str, lanes: int) -> None:
        self._prefix, self._lanes = prefix, lanes
        self.exchange = prefix
        self.lanes = f"{prefix}.lanes"
        self.number_of_lanes = f"{prefix}.lanes.{lanes}"

    def topic(self, topic: str) -> str:
        """What says that a topic is known."""
        return short(f"{self._prefix}.topic.{topic}")

    def listening(self, group: str, pattern: str) -> str:
        """What says that a group listens to a pattern."""
        return short(f"{self._prefix}.listens.{group}:{pattern}")

    def queue(self, group: str, lane: int) -> str:
        """Where a lane of a group waits."""
        return short(f"{self._prefix}.{group}.{lane}")

    def queues(self, group: str) -> Iterator[str]:
        """All queues of a group."""
        return (self.queue(group, lane) for lane in range(self._lanes))


class Topology:
    """Makes what is missing, or tells of it."""

    def __init__(self, connection: Connection, names: Names, lanes: int) -> None:
        self._connection, self._names, self._lanes = connection, names, lanes

    async def make(self, topics: Collection[str], groups: Mapping[str, Collection[str]]) -> None:
        """Make all of it; what is there already stays as it is."""
        names = self._names
        async with self._connection.channel() as channel:
            try:
                await self._exchange(channel, names.exchange, "topic")
                await self._exchange(channel, names.number_of_lanes)
                await self._exchange(channel, names.lanes, alternate=names.number_of_lanes)
                for group, patterns in sorted(groups.items()):
                    await self._make_group(channel, group, sorted(patterns))
                for topic in sorted(topics):
                    await self._exchange(channel, names.topic(topic))
            except REFUSALS as error:
                raise self._refused(error) from None

    async def look(self, topics: Collection[str], groups: Mapping[str, Collection[str]]) -> None:
        """Raise BrokerError with all that is missing; needs no right but to connect."""
        names = self._names
        signs = {names.exchange: f"the exchange {names.exchange}", names.lanes: f"the exchange {names.lanes}"}
        signs |= {names.topic(topic): f"the topic {topic}" for topic in sorted(topics)}
        for group, patterns in sorted(groups.items()):
            signs |= {names.listening(group, one): f"the bindings of {group} to {one}" for one in sorted(patterns)}
        absent = await self.absent_exchanges(signs)
        if names.lanes not in absent and await self.absent_exchanges([names.number_of_lanes]):
            raise self._other_lanes(f"there is no exchange {names.number_of_lanes}")
        missing = [signs[name] for name in absent]
        missing += [f"the queue {name}" for name in await self.absent_queues(sorted(groups))]
        if missing:
            fix = "Provision it: start an application that may, or give this one the right to"
            raise BrokerError(self._connection.place, f"it lacks {', '.join(missing)}", fix)

    async def absent_exchanges(self, names: Collection[str]) -> list[str]:
        """Which of these the broker does not have."""
        answers = await self._ask(names, lambda channel, name: channel.exchange_declare(name, passive=True))
        return [name for name in names if name not in answers]

    async def absent_queues(self, groups: Collection[str]) -> list[str]:
        """Which of the queues of these groups the broker does not have."""
        names = [name for group in groups for name in self._names.queues(group)]
        answers = await self._ask_for_queues(names)
        return [name for name in names if name not in answers]

    async def waiting(self, group: str) -> int:
        """How many envelopes of a group were not delivered yet; the broker does not tell of those that were."""
        answers = await self._ask_for_queues([*self._names.queues(group)])
        return sum(answer.message_count or 0 for answer in answers.values())

    async def _ask_for_queues(self, names: Collection[str]) -> dict[str, Queue.DeclareOk]:
        return await self._ask(names, lambda channel, name: channel.queue_declare(name, passive=True))

    async def _ask(
        self, names: Collection[str], question: Callable[[AbstractChannel, str], Coroutine[Any, Any, T]]
    ) -> dict[str, T]:
        """What the broker says of each of these that it has."""
        left, answers = deque(names), {}
        while left:
            # The answer that it has none ends a channel.
            async with self._connection.channel() as channel:
                try:
                    while left:
                        answers[left[0]] = await self._connection.ask(question(channel, left[0]))
                        left.popleft()
                except ChannelNotFoundEntity:
                    left.popleft()
                except REFUSALS as error:
                    raise self._refused(error) from None
        return answers

    async def _make_group(self, channel: AbstractChannel, group: str, patterns: list[str]) -> None:
        for lane in range(self._lanes):
            queue = self._names.queue(group, lane)
            await self._connection.ask(channel.queue_declare(queue, durable=True, arguments=self.arguments()))
            for pattern in patterns:
                # Not answered one by one: an answer to what follows says that all of them were taken.
                key = f"{lane}.{pattern}"
                await self._connection.ask(channel.queue_bind(queue, self._names.exchange, key, nowait=True))
        for pattern in patterns:
            await self._exchange(channel, self._names.listening(group, pattern))

    def arguments(self) -> dict[str, Any]:
        """What the queues are: on a full one the broker refuses, it does not drop what it has confirmed."""
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-overflow": "reject-publish",
        }
        if _major(self._connection.properties.get("version", "")) >= _HAS_NO_LIMIT:
            # From version 4 on the broker drops what was delivered 20 times, unless it is told not to.
            arguments["x-delivery-limit"] = -1
        return arguments

    async def _exchange(
        self, channel: AbstractChannel, name: str, kind: str = "fanout", *, alternate: str | None = None
    ) -> None:
        arguments: dict[str, Any] = {} if alternate is None else {"alternate-exchange": alternate}
        is_sign = kind == "fanout"
        declaration = channel.exchange_declare(
            name, exchange_type=kind, durable=True, internal=is_sign, arguments=arguments
        )
        await self._connection.ask(declaration)

    def _refused(self, error: BaseException) -> BrokerError:
        what = said(error)
        if isinstance(error, ChannelPreconditionFailed) and f"'{self._names.lanes}'" in what:
            return self._other_lanes(what)
        fix = "Delete it when it is empty, so that it is made as it should be, or take another ?prefix= in the URL"
        if isinstance(error, ChannelAccessRefused):
            fix = f"Give the user the rights to configure, write and read '^{re.escape(self._names.exchange)}'"
        return BrokerError(self._connection.place, f"the broker refuses what is needed there: {what}", fix)

    def _other_lanes(self, what: str) -> BrokerError:
        fix = (
            f"Say in the URL how many lanes there are on the broker (?lanes=), instead of {self._lanes}. To change it, "
            "let all queues run empty and delete the exchanges and queues of this prefix, or take another prefix"
        )
        return BrokerError(self._connection.place, f"it was provisioned with another number of lanes: {what}", fix)


def _major(version: object) -> int:
    found = re.match(r"\d+", str(version))
    return int(found[0]) if found else 0
