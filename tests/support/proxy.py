"""A network between clients and a server that a test can break, above all in the middle of a COMMIT.

    async with Proxy(database_url) as proxy:
        engine = create_async_engine(proxy.url)
        cut = proxy.cut_after_commit(of="test_accounts")
        ...
        await cut.happened()

An application commits on many connections at once, so a COMMIT is told from others by `of`, a part of a statement of
its transaction. Clients do not notice the proxy, except that their connections are never encrypted. A cut is a reset,
as if the other machine had gone, or with `reset=False` an orderly end.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Self

from sqlalchemy.engine import make_url

from tests.support.wire import (
    Conversation,
    Message,
    MySQLConversation,
    PlainConversation,
    PostgreSQLConversation,
)

__all__ = ["Proxy", "Trap"]

_SERVERS: dict[str, tuple[type[Conversation], int]] = {
    "postgresql": (PostgreSQLConversation, 5432),
    "mysql": (MySQLConversation, 3306),
    "mariadb": (MySQLConversation, 3306),
    "amqp": (PlainConversation, 5672),
    "kafka": (PlainConversation, 9092),
    "nats": (PlainConversation, 4222),
    "redis": (PlainConversation, 6379),
}
_PATIENCE = 30


class Proxy:
    """Stands before the server of a URL, for the time of the block."""

    def __init__(self, url: str, *, talk: Callable[[], Conversation] | None = None) -> None:
        target = make_url(url)
        usual, port = _SERVERS[target.get_backend_name()]
        self._talk = talk or usual
        self._target = target.host or "127.0.0.1", target.port or port
        self._url = target
        self._address = "", 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._traps: list[Trap] = []
        self._to_server, self._to_client = asyncio.Event(), asyncio.Event()
        self.delay: float = 0
        """Seconds by which everything that is said arrives later."""
        self.accepted = 0
        """Connections that were accepted so far."""
        self.swallowed = 0
        """Bytes that servers said and nobody will hear."""
        self._swallows = False
        self.commits = 0
        """COMMITs that clients asked for so far, whatever became of them."""

    @property
    def url(self) -> str:
        """What clients connect to."""
        host, port = self._address
        return self._url.set(host=host, port=port).render_as_string(hide_password=False)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def cut(self, *, reset: bool = True) -> None:
        """Cut all connections; those that come after it are as they should be."""
        self._swallows = False
        for connection in self._connections:
            connection.cut(reset=reset)

    def refuse(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        assert self._server is not None
        self._server.close()
        self._server = None

    async def accept(self) -> None:
        """Accept connections again."""
        listening = _bound(*self._address)
        self._server = await asyncio.start_server(self._accepted, sock=listening)

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let nothing through any more; connections stay open."""
        if to_server:
            self._to_server.clear()
        if to_client:
            self._to_client.clear()

    def swallow(self) -> None:
        """Until the next cut, servers hear everything, and nothing that they say arrives."""
        self._swallows = True

    def release(self) -> None:
        """Let through what was held, and everything after it."""
        self._to_server.set()
        self._to_client.set()

    def cut_before_commit(self, *, of: str = "", times: int = 1, reset: bool = True) -> "Trap":
        """Cut the connection when the client asks for a COMMIT, of which the server never hears."""
        return self._set(_CutBefore(of, times, reset=reset))

    def cut_after_commit(self, *, of: str = "", times: int = 1, reset: bool = True) -> "Trap":
        """Cut the connection when the server has committed, before the client hears of it."""
        return self._set(_CutAfter(of, times, reset=reset))

    def deliver_commit_late(self, seconds: float | None = None, *, of: str = "", times: int = 1) -> "Trap":
        """Cut off the client that asks for a COMMIT; `seconds` later, or when released, the server commits."""
        return self._set(_DeliverLate(of, times, seconds=seconds))

    def hold_commit(self, seconds: float | None = None, *, of: str = "", times: int = 1) -> "Trap":
        """Keep a COMMIT from the server for `seconds`, or until released."""
        return self._set(_HoldRequest(of, times, seconds=seconds))

    def hold_commit_answer(self, seconds: float | None = None, *, of: str = "", times: int = 1) -> "Trap":
        """Let the server commit, and keep that from the client for `seconds`, or until released."""
        return self._set(_HoldAnswer(of, times, seconds=seconds))

    def _set(self, trap: "Trap") -> "Trap":
        self._traps.append(trap)
        return trap

    def caught(self, statements: list[str]) -> "Trap | None":
        """The trap for a COMMIT of a transaction with these statements."""
        self.commits += 1
        for trap in self._traps:
            if trap.times and any(trap.of in statement for statement in statements):
                trap.times -= 1
                return trap
        return None

    def swallows(self, data: bytes) -> bool:
        """Whether this, which a server says, is not to arrive."""
        self.swallowed += len(data) if self._swallows else 0
        return self._swallows

    async def to_server(self) -> None:
        """Return when something may pass to the server."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._to_server.wait()

    async def to_client(self) -> None:
        """Return when something may pass to the client."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._to_client.wait()

    async def __aenter__(self) -> Self:
        self.release()
        # Bound and never listening: nobody else gets the port while connections are refused.
        self._reserved = _bound("127.0.0.1", 0)
        self._address = self._reserved.getsockname()
        await self.accept()
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._server is not None:
            self.refuse()
        self._reserved.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(_End(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: "_End") -> None:
        try:
            server = _End(*await asyncio.open_connection(*self._target))
        except OSError:
            client.close(reset=True)
            return
        connection = _Connection(self, client, server, self._talk())
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            connection.cut(reset=False)


class _End:
    """The end of a connection with one of the two."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """What it says; nothing when it has gone."""
        try:
            return await self._reader.read(1 << 16)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Tell it; nothing happens when it has gone."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    def close(self, *, reset: bool) -> None:
        if reset and not self._writer.is_closing():
            self._writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self._writer.transport.abort()
        else:
            self._writer.close()


class _Connection:
    """One client, its connection to the server, and what is said."""

    def __init__(self, proxy: Proxy, client: _End, server: _End, talk: Conversation) -> None:
        self.client, self.server = client, server
        self._proxy, self._talk = proxy, talk
        self._statements: list[str] = []
        self._trap: Trap | None = None

    def cut(self, *, reset: bool) -> None:
        """Cut it on both sides."""
        self.client.close(reset=reset)
        self.server.close(reset=reset)

    async def run(self) -> None:
        """Return when one of the two has gone."""
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self) -> None:
        while data := await self.client.read():
            await self._proxy.to_server()
            passing = b""
            for message in self._talk.from_client(data):
                trap = self._proxy.caught(self._statements) if message.is_commit else None
                if trap is None and not message.answer:
                    passing += message.data
                else:
                    await self.server.write(passing)
                    passing = b""
                    await self._handle(message, trap)
                self._remember(message)
            await self.server.write(passing)

    async def _handle(self, message: Message, trap: "Trap | None") -> None:
        if trap is None:
            await self.client.write(message.answer)
        else:
            self._trap = trap
            await trap.request(self, message.data)

    def _remember(self, message: Message) -> None:
        if message.ends_transaction:
            self._statements.clear()
        elif message.statement is not None:
            self._statements.append(message.statement)

    async def _answers(self) -> None:
        while data := await self.server.read():
            await self._proxy.to_client()
            if self._proxy.swallows(data):
                continue
            passing = b""
            for message in self._talk.from_server(data):
                if message.ends_commit and self._trap is not None:
                    await self.client.write(passing)
                    passing = b""
                    trap, self._trap = self._trap, None
                    await trap.answer(self, message.data)
                else:
                    passing += message.data
            await self.client.write(passing)


class Trap:
    """Waits for `times` COMMITs and does something to them; by itself, it lets them pass."""

    def __init__(self, of: str, times: int, *, seconds: float | None = None, reset: bool = True) -> None:
        self.of, self.times = of, times
        self._seconds, self._reset = seconds, reset
        self._sprung = asyncio.Semaphore(0)
        self._released = asyncio.Event()

    async def happened(self) -> None:
        """Return when it caught a COMMIT; each call wants another."""
        async with asyncio.timeout(_PATIENCE):
            await self._sprung.acquire()

    def release(self) -> None:
        """Let go what is held."""
        self._released.set()

    async def request(self, connection: _Connection, data: bytes) -> None:
        """What becomes of a COMMIT."""
        await connection.server.write(data)

    async def answer(self, connection: _Connection, data: bytes) -> None:
        """What becomes of its answer."""
        await connection.client.write(data)

    def _spring(self) -> None:
        self._sprung.release()

    async def _hold(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._released.wait()


class _CutBefore(Trap):
    async def request(self, connection: _Connection, data: bytes) -> None:
        self._spring()
        connection.cut(reset=self._reset)


class _CutAfter(Trap):
    async def answer(self, connection: _Connection, data: bytes) -> None:
        self._spring()
        connection.cut(reset=self._reset)


class _HoldRequest(Trap):
    async def request(self, connection: _Connection, data: bytes) -> None:
        self._spring()
        await self._hold()
        await connection.server.write(data)


class _DeliverLate(_HoldRequest):
    async def request(self, connection: _Connection, data: bytes) -> None:
        connection.client.close(reset=True)
        await super().request(connection, data)


class _HoldAnswer(Trap):
    async def answer(self, connection: _Connection, data: bytes) -> None:
        self._spring()
        await self._hold()
        await connection.client.write(data)


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound
