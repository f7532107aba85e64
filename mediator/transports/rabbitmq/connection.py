"""A connection that opens itself again, as often as it takes, and never makes anybody wait without an end.

The client's own robust connection was seen to hang for good after the broker was killed, so this is a plain one and a
loop. Every request has a deadline, and runs in a task of its own: when a connection is lost, the client lets those who
wait for an answer see a cancellation that is none of theirs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aiormq
import structlog
from aiormq.abc import AbstractChannel
from aiormq.connection import Connection as OpenConnection
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from mediator.errors import BrokerError, TransportUnavailableError
from mediator.messaging.supervision import ended, keep_running
from mediator.transports.rabbitmq.address import Address
from mediator.transports.rabbitmq.wire import Wire

__all__ = ["REFUSALS", "Connection", "said"]

log = structlog.get_logger(__name__)
T = TypeVar("T")

REFUSALS: Final = (ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity, ChannelPreconditionFailed)
"""Answers of the broker's that end the channel and nothing else."""
_CONNECT_SECONDS, _ANSWER_SECONDS, _GOODBYE_SECONDS = 10.0, 10.0, 3.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


def said(error: BaseException) -> str:
    """What the broker said, without the client's own words around it."""
    return " ".join(str(part) for part in error.args if part) or type(error).__name__


class Connection:
    """One connection to the broker, for one purpose."""

    def __init__(self, address: Address, purpose: str) -> None:
        self._address, self._purpose = address, purpose
        self._now: OpenConnection | None = None
        self._wire = Wire(address.scheme)
        self._up, self._closed = asyncio.Event(), True
        self._tasks: list[asyncio.Task[None]] = []
        self.epoch = 0
        """How often it was opened."""
        self.properties: dict[str, Any] = {}
        """What the broker said of itself."""
        self.most_channels = 0

    @property
    def place(self) -> str:
        """Where it goes to."""
        return self._address.place

    async def open(self) -> None:
        """Connect, and stay connected from then on; raises BrokerError."""
        await self._connect()
        self._closed = False
        name = f"amqp.{self._purpose}"
        self._tasks = [asyncio.create_task(keep_running(name, self._stay), name=name)]

    async def close(self) -> None:
        """Disconnect, if need be without a goodbye."""
        self._closed = True
        self._up.clear()
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)
        await self._hang_up()

    async def until_up(self) -> None:
        """Return when it is connected."""
        await self._up.wait()

    async def until_unblocked(self) -> None:
        """Return when the broker takes publications: it does not while it is short of memory or disk."""
        if self._now is not None:
            await self._now.ready()

    async def open_channel(self, *, confirms: bool = False, within: float = _ANSWER_SECONDS) -> AbstractChannel:
        """A channel of one's own; raises TransportUnavailableError."""
        if self._now is None or not self._up.is_set():
            raise TransportUnavailableError(
                self.place, "the connection is closed" if self._closed else "the connection is lost"
            )
        return await self.ask(self._now.channel(publisher_confirms=confirms), within)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel for the time of the block."""
        channel = await self.open_channel()
        try:
            yield channel
        finally:
            await self.close_channel(channel)

    async def close_channel(self, channel: AbstractChannel) -> None:
        """Close it; what it had received and not settled goes back where it was."""
        if not channel.is_closed:
            with contextlib.suppress(TransportUnavailableError, *REFUSALS):
                await self.ask(channel.close(), _GOODBYE_SECONDS)

    async def ask(self, request: Coroutine[Any, Any, T], within: float = _ANSWER_SECONDS) -> T:
        """Await a request; raises what the broker refused, and otherwise TransportUnavailableError."""
        task = asyncio.ensure_future(request)
        try:
            await asyncio.wait([task], timeout=within)
        finally:
            if not task.done():
                # Not awaited: what the client cleans up after it may wait for the broker, too.
                task.add_done_callback(_forget)
                task.cancel()
        if not task.done():
            raise TransportUnavailableError(self.place, f"no answer within {within:g} s")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return task.result()
        if isinstance(error, REFUSALS) or not isinstance(error, _LOSSES):
            raise error
        raise TransportUnavailableError(self.place, f"the connection was lost ({said(error)})") from error

    async def _stay(self) -> None:
        while not self._closed:
            if self._now is not None:
                await asyncio.wait([self._now.closing])
                self._up.clear()
                self._wire.is_careful |= _was_unreadable(self._now.closing)
                log.warning("transport.connection_lost", transport=self.place, connection=self._purpose)
                await self._hang_up()
            pause = _FIRST_PAUSE_SECONDS
            while self._now is None:
                try:
                    await self._connect()
                except BrokerError:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            log.info("transport.connected_again", transport=self.place, connection=self._purpose)

    async def _connect(self) -> None:
        opening = aiormq.connect(self._address.url(self._purpose), transport_factory=self._wire)
        try:
            await self._attempt(opening.connection.connect())
        except BrokerError:
            self._wire.abort()
            raise
        self._now = opening.connection
        self.properties = dict(self._now.server_properties)
        self.most_channels = self._now.connection_tune.channel_max or 0
        self.epoch += 1
        self._up.set()

    async def _attempt(self, connecting: Coroutine[Any, Any, bool]) -> None:
        try:
            await self.ask(connecting, _CONNECT_SECONDS)
        except TransportUnavailableError as failed:
            error = failed.__cause__
            if error is None:
                what, fix = failed.why, "Is it overloaded, or is a firewall in between?"
            elif isinstance(error, ProbableAuthenticationError):
                what = f"it refuses the user or the password ({said(error)})"
                fix = "Correct them in the URL; guest may only connect from the broker's own machine"
            elif isinstance(error, InvalidFrameError) and "Connection.OpenOk" in said(error):
                # The client does not pass on what the broker says of it.
                what = "it refuses the virtual host"
                fix = "Make it, give the user rights on it, or correct the path of the URL"
            elif isinstance(error, AMQPConnectionError | OSError):
                what, fix = f"it cannot be reached ({said(error)})", "Start it, or correct host, port and scheme"
            else:
                what, fix = f"what answers there does not speak AMQP 0-9-1 ({said(error)})", "Correct host and port"
            raise BrokerError(self.place, what, fix) from None

    async def _hang_up(self) -> None:
        lost, self._now = self._now, None
        if lost is not None:
            with contextlib.suppress(TransportUnavailableError, *REFUSALS):
                await self.ask(lost.close(), _GOODBYE_SECONDS)
        self._wire.abort()


_LOSSES = (AMQPError, OSError, RuntimeError, asyncio.CancelledError, TimeoutError)
"""What requests end with when the connection or the channel is gone: the client has many words for it."""


def _was_unreadable(closing: "asyncio.Future[Any]") -> bool:
    """Whether the connection ended because of something in it, and not by the network or the broker."""
    error = None if closing.cancelled() else closing.exception()
    return error is not None and not isinstance(error, (OSError, asyncio.CancelledError))


def _forget(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
