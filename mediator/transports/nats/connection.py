"""The connection to a NATS server: one client of nats-py after the other, and requests to JetStream.

The client's own way to connect again is off: it keeps what was published meanwhile and sends it later, when its
outcome has long been told as unknown. Here nothing is written unless there is a connection; one that was lost is put
away with everything that waits on it, and a new one takes its place.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any, Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from mediator.errors import BrokerError, TransportUnavailableError
from mediator.messaging.supervision import ended, happens, keep_running
from mediator.transports.nats.address import NatsAddress
from mediator.transports.nats.client import TolerantClient

__all__ = ["NOT_FOUND", "JetStreamError", "NatsConnection", "OnConnection"]

log = structlog.get_logger(__name__)

NOT_FOUND: Final = 404
"""The code of an error."""
_CONNECT_SECONDS: Final = 5
_REQUEST_SECONDS: Final = 5
_END_SECONDS: Final = 1
_LOOK_SECONDS: Final = 0.5
_PING_SECONDS, _PINGS_UNANSWERED = 5, 2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class JetStreamError(Exception):
    """JetStream refused a request."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code, self.number = error.get("code", 0), error.get("err_code", 0)
        super().__init__(error.get("description", "no reason given"))


class OnConnection(Protocol):
    """Who wants to know what becomes of the connection."""

    def lost(self) -> None:
        """It is gone, and all that was said on it with it."""
        ...

    def connected(self) -> None:
        """There is another one."""
        ...


class NatsConnection:
    """Connects, and connects again."""

    def __init__(self, address: NatsAddress) -> None:
        self.address = address
        self.listeners: set[OnConnection] = set()
        self._client: Client | None = None
        self._trouble = asyncio.Event()
        self._why = "not open"
        self._keeper: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Timeout] = set()

    @property
    def client(self) -> Client:
        """What there is to talk to now; raises TransportUnavailableError if there is nothing."""
        if self._client is None or not self._client.is_connected:
            raise TransportUnavailableError(self.address.scheme, self._why)
        return self._client

    async def open(self) -> None:
        """Connect; raises BrokerError."""
        try:
            self._client = await self._connected()
            await self.request("INFO")
        except (OSError, nats.errors.Error) as error:
            raise BrokerError(str(self.address), f"it cannot be used ({self._reason(error)})", _fix(error)) from error
        except (TransportUnavailableError, JetStreamError) as error:
            await self.close()
            fix = "Start it with JetStream (-js, or jetstream {} in its configuration), and enable it for the account"
            raise BrokerError(str(self.address), f"JetStream does not answer ({error})", fix) from error
        self._keeper = asyncio.create_task(keep_running("nats", self._keep), name="nats")

    async def close(self) -> None:
        """Disconnect; bounded, also when the server is gone."""
        self._why = "closed"
        if self._keeper is not None:
            self._keeper.cancel()
            await ended([self._keeper])
            self._keeper = None
        await self._put_away()

    async def request(self, subject: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream; raises JetStreamError if it refuses, TransportUnavailableError if it does not answer."""
        return _read(await self.ask(f"$JS.API.{subject}", b"" if about is None else json.dumps(about).encode()))

    async def store(self, subject: str) -> None:
        """Publish an empty message to a stream; raises as a request does."""
        _read(await self.ask(subject, b""))

    async def ask(self, subject: str, body: bytes) -> Msg:
        """Publish something and await the answer."""
        client, limit = self.client, asyncio.timeout(_REQUEST_SECONDS)
        self._asking.add(limit)
        try:
            async with limit:
                return await client.request(subject, body, timeout=2 * _REQUEST_SECONDS)
        except nats.errors.NoRespondersError as error:
            raise TransportUnavailableError(self.address.scheme, f"nobody answers {subject}") from error
        except (OSError, nats.errors.Error) as error:
            why = f"{subject} was not answered ({self._why or type(error).__name__})"
            raise TransportUnavailableError(self.address.scheme, why) from error
        finally:
            self._asking.discard(limit)

    async def say(self, subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Publish something; whether it arrives is another question."""
        try:
            await self.client.publish(subject, body, reply, headers)
        except (OSError, nats.errors.Error) as error:
            raise TransportUnavailableError(self.address.scheme, str(error)) from error

    async def _connected(self) -> Client:
        address = self.address
        client = TolerantClient(must_encrypt=address.scheme == "tls")
        self._trouble.clear()
        self._why = ""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.connect(
                    address.servers,
                    user=None if address.password is None else address.user,
                    password=address.password,
                    token=address.user if address.password is None else None,
                    name="mediator",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each server; 0 would mean for ever
                    reconnect_time_wait=0,
                    connect_timeout=_CONNECT_SECONDS,
                    ping_interval=_PING_SECONDS,
                    max_outstanding_pings=_PINGS_UNANSWERED,
                    pending_size=0,  # write nothing into a buffer while disconnected, and never wait for it
                    error_cb=self._failed,
                    disconnected_cb=self._disconnected,
                )
        except BaseException:
            await _end(client)
            raise
        return client

    async def _failed(self, error: Exception) -> None:
        # What it cannot do because of missing permissions is told in no other way.
        self._why = str(error) or type(error).__name__
        self._trouble.set()

    async def _disconnected(self) -> None:
        self._trouble.set()

    def _reason(self, error: BaseException) -> str:
        """The client tells its error handler why, and then raises that there are no servers."""
        return self._why if isinstance(error, nats.errors.NoServersError) else str(error) or type(error).__name__

    async def _keep(self) -> None:
        while True:
            # Some losses the client finds without telling.
            while self._client is not None and self._client.is_connected:
                await happens(self._trouble, _LOOK_SECONDS)
                self._trouble.clear()
                await asyncio.sleep(0)
            log.warning("transport.connection_lost", transport=str(self.address), error=self._why)
            self._why = self._why or "connection lost"
            await self._put_away()
            await self._connect_again()
            log.info("transport.connected_again", transport=str(self.address))
            for listener in list(self.listeners):
                listener.connected()

    async def _connect_again(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                client = await self._connected()
            except (OSError, nats.errors.Error) as error:
                self._why = self._reason(error)
            else:
                self._client = client
                return

    async def _put_away(self) -> None:
        client, self._client = self._client, None
        # The client leaves whoever awaits an answer waiting.
        for limit in self._asking:
            limit.reschedule(asyncio.get_running_loop().time())
        for listener in list(self.listeners):
            listener.lost()
        if client is not None:
            await _end(client)


def _read(answer: Msg) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.data)
    if "error" in found:
        raise JetStreamError(found["error"])
    return found


async def _end(client: Client) -> None:
    """Close a client for good. It stops half-way when the connection is broken, and waits for a server that hangs."""
    transport, subscriptions = client._transport, list(client._subs.values())  # noqa: SLF001
    with suppress(OSError, nats.errors.Error):
        async with asyncio.timeout(_END_SECONDS):
            await client.close()
    for subscription in subscriptions:
        subscription._stop_processing()  # noqa: SLF001
    reading = client._reading_task  # noqa: SLF001
    if reading is not None:
        # It may have ended with the error that ended the connection, which is known by now.
        await asyncio.wait([reading], timeout=_END_SECONDS)
        if reading.done() and not reading.cancelled():
            reading.exception()
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def _fix(error: BaseException) -> str:
    if "uthorization" in str(error):
        return "Correct the user and the password in the URL"
    if "TLS" in str(error) or "SSL" in str(error):
        return "Compare the URL's scheme (tls:// or nats://) and the certificates with the server's configuration"
    return "Start it, or correct the URL"
