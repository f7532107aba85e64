"""A Redis and what is ours on it: where it is, what the keys are called, and how it is asked.

    {prefix}:settings          the number of lanes
    {prefix}:topics            what may be published to
    {prefix}:lane:{n}          a stream with the envelopes of all topics whose key is in this lane
    {prefix}:owners:{group}    who reads which lane for a group, by a number that grows
    {prefix}:lane:{n}:{group}:{number}    the owner's ticket (`ownership`)

Nothing is repeated in secret, and every question has a time to be answered in. The client would do both otherwise: ten
repetitions, which publish twice, and no end of waiting for a machine that hangs.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from mediator.errors import BrokerError, SettingsError, TransportUnavailableError

__all__ = ["ANSWER_SECONDS", "NotProvisioned", "Server"]

log = structlog.get_logger(__name__)
ANSWER_SECONDS: Final = 5.0
_OUTAGES = (RedisError, OSError, TimeoutError)
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_MOST_LANES = 256
_MOST_CONNECTIONS = 10_000


class NotProvisioned(Exception):  # noqa: N818 - a state of the broker, handled by whoever asked
    """A stream or a group that was made is not there any more."""


class Server:
    """One Redis under one prefix."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 6379
        except ValueError as error:
            raise SettingsError("transport", "redis://…", f"write redis://host:port ({error})") from error
        self.name = parts.scheme
        self.address = f"{parts.scheme}://{host}:{port}"
        if not host:
            raise self._wrong("name a host: redis://127.0.0.1:6379")
        if not re.fullmatch(r"(/[0-9]{0,5})?", parts.path):
            raise self._wrong(f"the database {parts.path[1:]!r} is no number")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.prefix = options.pop("prefix", "mediator")
        if not _PREFIX.fullmatch(self.prefix):
            raise self._wrong("prefix has 1 to 100 letters, digits and . _ : -")
        lanes = options.pop("lanes", "16")
        self.lanes = int(lanes) if re.fullmatch(r"[0-9]{1,3}", lanes) else 0
        if not 1 <= self.lanes <= _MOST_LANES:
            raise self._wrong(f"lanes = {lanes[:20]!r} is no number from 1 to {_MOST_LANES}")
        tls = {"ssl": True, "ssl_ca_certs": options.pop("ca", None)} if parts.scheme == "rediss" else {}
        if options:
            raise self._wrong(
                f"the parameter {min(options)!r} is unknown: there are prefix, lanes, and ca for rediss://"
            )
        self._facts: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": int(parts.path[1:] or 0),
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            **tls,
        }
        self._redis: Redis | None = None
        self._connections: list[Redis] = []
        self._is_lost, self._refusal = False, ""
        self.settings, self.topics = f"{self.prefix}:settings", f"{self.prefix}:topics"

    def lane(self, lane: int) -> str:
        """The stream of a lane."""
        return f"{self.prefix}:lane:{lane}"

    def owners(self, group: str) -> str:
        return f"{self.prefix}:owners:{group}"

    async def open(self) -> None:
        """Connect; raises BrokerError when that cannot work."""
        redis = self._client()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await redis.ping()
        except AuthenticationError as error:
            await _close(redis)
            raise self.broken(f"refuses the user or the password ({error})", "Correct them in the URL") from error
        except ResponseError as error:
            await _close(redis)
            raise self.broken(f"refuses the connection ({error})", "Correct the URL, or the user's rights") from error
        except _OUTAGES as error:
            await redis.aclose()
            why = str(error).partition("\n")[0] or type(error).__name__
            raise self.broken(f"does not answer ({why})", "Start it, or correct the URL") from error
        self._redis, self._is_lost = redis, False
        try:
            await self.run("#!lua\nreturn 1", [])
            await self.check_lanes()
        except TransportUnavailableError as error:
            await self.close()
            raise self.broken(f"cannot be used ({error.why})", "Redis 7.0 is needed, and a user with rights") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect, also what waits for an answer."""
        redis, self._redis = self._redis, None
        for connection in list(self._connections):
            await self.disconnect(connection)
        if redis is not None:
            await _close(redis)

    def connection(self) -> Redis:
        """A client with a single connection, so that its loss does not go unnoticed."""
        connection = self._client(single_connection_client=True)
        self._connections.append(connection)
        return connection

    async def disconnect(self, connection: Redis) -> None:
        """Close one that was made by `connection`."""
        if connection in self._connections:
            self._connections.remove(connection)
            await _close(connection)

    async def ask(self, *command: Any, seconds: float = ANSWER_SECONDS, on: Redis | None = None) -> Any:
        """The answer to a command; raises TransportUnavailableError, or NotProvisioned."""
        async with self._answering(seconds) as redis:
            return await (on or redis).execute_command(*command)  # type: ignore[no-untyped-call]

    async def run(self, script: str, keys: Sequence[str], *arguments: Any, on: Redis | None = None) -> Any:
        """What a script returns; sent as a whole each time, so that a broker that was started anew knows it."""
        return await self.ask("EVAL", script, len(keys), *keys, *arguments, on=on)

    async def ask_together(
        self, commands: Sequence[Sequence[Any]], seconds: float = ANSWER_SECONDS, *, on: Redis | None = None
    ) -> list[Any]:
        """The answers to commands that are sent at once, as they come; what is refused has its error as the answer."""
        if on is not None:
            async with self._answering(seconds):
                return await _exchanged(on, commands)
        async with self._answering(seconds) as redis, redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))

    async def check_lanes(self) -> bool:
        """Whether something is provisioned; raises BrokerError when it has another number of lanes."""
        lanes = await self.ask("HGET", self.settings, "lanes")
        if lanes is not None and int(lanes) != self.lanes:
            raise self.broken(
                f"has {int(lanes)} lanes under the prefix {self.prefix!r}, and the URL asks for {self.lanes}",
                f"Add lanes={int(lanes)} to the URL, or use another prefix",
            )
        return lanes is not None

    async def failed(self, error: ResponseError) -> NotProvisioned | TransportUnavailableError:
        """What it means that a command is refused: something was removed, or this broker does not work now."""
        if str(error).startswith("NOGROUP"):
            return NotProvisioned(str(error))
        await self.refused(str(error))
        return self.unavailable(error)

    async def refused(self, why: str) -> None:
        """Tell what it refuses, once; and look for another one when this is no primary any more."""
        if why != self._refusal:
            self._refusal = why
            log.warning("transport.refused", transport=self.name, broker=self.address, error=why)
        if "READONLY" in why:
            for client in (self._redis, *self._connections):
                if client is not None:
                    await client.connection_pool.disconnect(inuse_connections=client in self._connections)

    def broken(self, what: str, fix: str) -> BrokerError:
        """The error for a broker that cannot be used as it is."""
        return BrokerError(self.name, f"{self.address} {what}", fix)

    def unavailable(self, why: object) -> TransportUnavailableError:
        return TransportUnavailableError(self.name, f"{self.address}: {why}")

    def _client(self, **options: Any) -> Redis:
        return Redis(
            **self._facts,
            **options,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=ANSWER_SECONDS,
            max_connections=_MOST_CONNECTIONS,
        )

    def _wrong(self, fix: str) -> SettingsError:
        return SettingsError("transport", self.address, fix)

    @asynccontextmanager
    async def _answering(self, seconds: float) -> AsyncIterator[Redis]:
        if self._redis is None:
            raise self.unavailable("closed")
        try:
            async with asyncio.timeout(max(seconds, 0)):
                yield self._redis
        except ResponseError as error:
            raise await self.failed(error) from error
        except _OUTAGES as error:
            why = str(error) or "no answer in time"
            if not self._is_lost and self._redis is not None:
                self._is_lost = True
                log.warning("transport.connection_lost", transport=self.name, broker=self.address, error=why)
            raise self.unavailable(why) from error
        if self._is_lost:
            self._is_lost = False
            log.info("transport.connected_again", transport=self.name, broker=self.address)


async def _close(redis: Redis) -> None:
    with suppress(*_OUTAGES):
        async with asyncio.timeout(ANSWER_SECONDS):
            await redis.aclose()


async def _exchanged(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers of a client with a single connection; its pipelines would take another one."""
    connection = (await client.initialize()).connection
    if connection is None:
        raise RedisConnectionError("closed")
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
