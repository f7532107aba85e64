"""Publishing to JetStream: many envelopes on their way at once, and of a key one after the other.

The next envelope of a key is sent when the one before it is stored. JetStream may refuse a single message (its disk is
full, and a moment later not), and one that was sent right behind it would overtake it. Envelopes of other keys, and
those without one, do not wait for each other.

No message id is given to JetStream for its own deduplication: it would swallow what somebody publishes again on purpose
within two minutes, and the inbox recognises an event for as long as its rows are kept.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from itertools import count
from typing import Final
from urllib.parse import quote

import nats.errors
from nats.aio.msg import Msg

from mediator.errors import DeliveryError, PublishRefusedError, TransportUnavailableError
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import happens
from mediator.messaging.transport import lane_of
from mediator.transports.nats.connection import JetStreamError, NatsConnection
from mediator.transports.nats.streams import KnownTopics

__all__ = ["Confirmations", "Publication"]

_DEADLINE_SECONDS: Final = 10.0
_UNDER_WAY_BYTES: Final = 8 * 1024 * 1024
_TOO_LARGE: Final = 10054
_TOKEN: Final = "!#$&'*+-.^_`|~"  # noqa: S105 - what a header's name may hold besides letters and digits
_PLAIN_NAME: Final = re.compile(r"[a-z0-9-]+")
_HEADER_BLOCK_BYTES: Final = len("NATS/1.0\r\n\r\n")


class Confirmations:
    """Where JetStream's answers to publications arrive, for one connection after the other."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection, self._inbox = connection, ""
        self._numbers = count()
        self._waiting: dict[str, Publication] = {}

    async def expect(self, publication: "Publication") -> tuple[str, str]:
        """Where an answer is to be sent, and the number that it will be told by."""
        if not self._inbox:
            client = self._connection.client
            inbox = client.new_inbox()
            try:
                await client.subscribe(f"{inbox}.*", cb=self._arrived)
            except (OSError, nats.errors.Error) as error:
                raise TransportUnavailableError(self._connection.address.scheme, str(error)) from error
            self._inbox = inbox
        number = str(next(self._numbers))
        self._waiting[number] = publication
        return f"{self._inbox}.{number}", number

    def forget(self, numbers: Collection[str]) -> None:
        """Nobody waits for these any more."""
        for number in numbers:
            self._waiting.pop(number, None)

    def lost(self) -> None:
        """No answer will come: the client leaves whoever waits for one waiting for ever."""
        waiting, self._waiting, self._inbox = self._waiting, {}, ""
        for number, publication in waiting.items():
            publication.answered(number, None)

    def connected(self) -> None:
        """The next publication subscribes anew."""

    async def _arrived(self, message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        publication = self._waiting.pop(number, None)
        if publication is not None:
            publication.answered(number, message)
            await publication.go_on()


class Publication:
    """One batch on its way."""

    def __init__(self, connection: NatsConnection, confirmations: Confirmations, batch: Sequence[Envelope]) -> None:
        self._connection, self._confirmations = connection, confirmations
        self._scheme = connection.address.scheme
        self._left = len(batch)
        self._outcomes: deque[tuple[Envelope, Exception | None]] = deque()
        self._news = asyncio.Event()
        queues: dict[object, deque[Envelope]] = {}
        for envelope in batch:
            queues.setdefault(object() if envelope.key is None else envelope.key, deque()).append(envelope)
        self._ready = deque(queues.values())
        """Of each key what is still to be sent, where nothing of it is under way."""
        self._under_way: dict[str, tuple[deque[Envelope], int]] = {}
        self._under_way_bytes = 0
        self._unknown_topics: Collection[str] = ()

    async def outcomes(self, topics: KnownTopics) -> AsyncGenerator[tuple[Envelope, Exception | None], None]:
        """Send everything, and give the outcomes as they become known."""
        now = asyncio.get_running_loop().time
        deadline = now() + _DEADLINE_SECONDS
        try:
            await self._look_up(topics)
            while self._left:
                self._news.clear()
                await self.go_on()
                while self._outcomes:
                    self._left -= 1
                    yield self._outcomes.popleft()
                if self._left and not await happens(self._news, deadline - now()):
                    self.fail(TransportUnavailableError(self._scheme, "no answer in time"))
        finally:
            self._confirmations.forget(self._under_way)

    async def _look_up(self, topics: KnownTopics) -> None:
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                self._unknown_topics = await topics.unknown(
                    {envelope.topic for queue in self._ready for envelope in queue}
                )
        except (TransportUnavailableError, JetStreamError, TimeoutError) as error:
            why = f"the topics could not be looked up ({error})"
            self.fail(TransportUnavailableError(self._scheme, why))

    def fail(self, error: Exception) -> None:
        """Nothing more is sent, and no answer waited for."""
        self._confirmations.forget(self._under_way)
        waiting = [*self._ready, *(queue for queue, _ in self._under_way.values())]
        self._ready.clear()
        self._under_way.clear()
        for queue in waiting:
            self._fail(queue, error)

    async def go_on(self) -> None:
        """Send what may be sent now."""
        while self._ready and self._under_way_bytes < _UNDER_WAY_BYTES:
            queue = self._ready.popleft()
            try:
                await self._send_first(queue)
            except DeliveryError as error:
                self._fail(queue, error)

    async def _send_first(self, queue: deque[Envelope]) -> None:
        envelope = queue[0]
        if envelope.topic in self._unknown_topics:
            why = "the topic was not provisioned: start a process that may, or correct the topic"
            raise PublishRefusedError(self._scheme, envelope.topic, why)
        headers = {_header_name(name): value for name, value in to_headers(envelope).items()}
        size = _HEADER_BLOCK_BYTES + sum(len(name) + len(value) + 4 for name, value in headers.items())
        size += len(envelope.body)
        most = self._connection.client.max_payload
        if size > most:
            why = f"{size} bytes with its headers, and the server's max_payload is {most}"
            raise PublishRefusedError(self._scheme, envelope.topic, why)
        reply, number = await self._confirmations.expect(self)
        self._under_way[number] = queue, size
        self._under_way_bytes += size
        address = self._connection.address
        subject = address.subject(lane_of(envelope, address.lanes), envelope.topic)
        try:
            await self._connection.say(subject, envelope.body, reply, headers)
        except TransportUnavailableError:
            self._confirmations.forget([number])
            self._under_way.pop(number, None)
            self._under_way_bytes -= size
            raise

    def answered(self, number: str, answer: Msg | None) -> None:
        """JetStream's answer to one of them; None if none can come any more."""
        queue, size = self._under_way.pop(number)
        self._under_way_bytes -= size
        error = self._error_in(queue[0], answer)
        if error is not None:
            self._fail(queue, error)
            return
        self._outcomes.append((queue.popleft(), None))
        if queue:
            self._ready.append(queue)
        self._news.set()

    def _error_in(self, envelope: Envelope, answer: Msg | None) -> Exception | None:
        if answer is None:
            return TransportUnavailableError(self._scheme, "the connection was lost before the answer came")
        if not answer.data:
            return TransportUnavailableError(self._scheme, "no stream takes it, or JetStream is not ready")
        refused = json.loads(answer.data).get("error")
        if refused is None:
            return None
        why = str(refused.get("description"))
        if refused.get("err_code") == _TOO_LARGE:
            return PublishRefusedError(self._scheme, envelope.topic, why)
        return TransportUnavailableError(self._scheme, why)

    def _fail(self, queue: deque[Envelope], error: Exception) -> None:
        """What follows the first failure of a key is not sent."""
        self._outcomes.extend((envelope, error) for envelope in queue)
        queue.clear()
        self._news.set()


def _header_name(name: str) -> str:
    """Our own names may hold what NATS would not take."""
    return name if _PLAIN_NAME.fullmatch(name) else quote(name, safe=_TOKEN)
