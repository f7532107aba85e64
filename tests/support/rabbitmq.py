"""A RabbitMQ for tests: where it is, how what was made there is removed, and a server of a test's own.

with RabbitMQServer() as server:
    server.start()
    server.kill()
    server.start(max_message_size=100_000)
"""

import asyncio
import os
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

import aiormq
from anyio.from_thread import start_blocking_portal
from pamqp.commands import Exchange, Queue
from pamqp.frame import unmarshal

from mediator.transports.rabbitmq import RabbitMQTransport
from mediator.transports.rabbitmq.address import address_of
from mediator.transports.rabbitmq.topology import Names
from tests.support.databases import Unreachable, in_a_thread
from tests.support.own_servers import OwnServer
from tests.support.proxy import Proxy
from tests.support.wire import Message, PlainConversation

__all__ = ["SHARED", "RabbitMQServer", "Recorded", "cleaned", "found", "removed"]

VARIABLE = "MEDIATOR_TEST_RABBITMQ"
SHARED = os.environ.get(VARIABLE) or "amqp://guest:guest@127.0.0.1:5672/"
_ANSWER_SECONDS = 5
_GREETING, _GREETING_SIZE = b"AMQP", 8
_HEAD_SIZE = 7
_METHOD = 1
_MADE: dict[str, list[tuple[str, Collection[str], Mapping[str, Collection[str]]]]] = {}


class Recorded(RabbitMQTransport):
    """Remembers what it asked the broker to make, for the test to remove."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._url = url

    async def provision(
        self, topics: Collection[str], groups: Mapping[str, Collection[str]], *, create: bool = True
    ) -> None:
        if create:
            _MADE.setdefault(address_of(self._url).prefix, []).append((self._url, topics, groups))
        await super().provision(topics, groups, create=create)


async def removed(prefix: str) -> None:
    """Remove what was made on the broker with this prefix."""
    for url, topics, groups in _MADE.pop(prefix, []):
        address = address_of(url)
        names = Names(address.prefix, address.lanes)
        async with aiormq.connect(address.url("tests")) as connection:
            channel = await connection.channel()
            for group, patterns in groups.items():
                for lane in range(address.lanes):
                    await channel.queue_delete(names.queue(group, lane))
                for pattern in patterns:
                    await channel.exchange_delete(names.listening(group, pattern))
            for topic in topics:
                await channel.exchange_delete(names.topic(topic))
            for name in (names.exchange, names.lanes, names.number_of_lanes):
                await channel.exchange_delete(name)


def found() -> str:
    """Where the broker is that the tests share; raises Unreachable."""
    try:
        in_a_thread(_greet(SHARED))
    except (OSError, TimeoutError) as error:
        place = address_of(SHARED).place
        reason = f"{place} does not answer ({type(error).__name__}): start it, or set {VARIABLE} to a URL"
        raise Unreachable("rabbitmq", reason) from error
    return SHARED


@contextmanager
def cleaned(url: str) -> Iterator[str]:
    """Another URL of the broker, by which everything may be made; it is removed at the end."""
    made = _Made()
    try:
        # A client can only ask a broker for what it knows the name of: the names are heard on the way there.
        proxy = Proxy(url, talk=lambda: _Declarations(made))
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(proxy):
            yield proxy.url
    finally:
        in_a_thread(made.remove(url))


class _Made:
    """Names of what was declared."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.exchanges: set[str] = set()

    async def remove(self, url: str) -> None:
        async with aiormq.connect(url) as connection:
            channel = await connection.channel()
            for queue in self.queues:
                await channel.queue_delete(queue)
            for exchange in self.exchanges:
                await channel.exchange_delete(exchange)


class _Declarations(PlainConversation):
    """Bytes pass as they come, and what a client declares is noted."""

    def __init__(self, made: _Made) -> None:
        super().__init__()
        self._made, self._unread = made, b""

    def from_client(self, data: bytes) -> list[Message]:
        self._unread += data
        if self._unread.startswith(_GREETING):
            self._unread = self._unread[_GREETING_SIZE:]
        while len(self._unread) >= _HEAD_SIZE:
            size = _HEAD_SIZE + int.from_bytes(self._unread[3:_HEAD_SIZE]) + 1
            if len(self._unread) < size:
                break
            if self._unread[0] == _METHOD:
                self._note(unmarshal(self._unread[:size])[2])
            self._unread = self._unread[size:]
        return [Message(data)]

    def _note(self, method: object) -> None:
        if isinstance(method, Queue.Declare):
            self._made.queues.add(method.queue)
        elif isinstance(method, Exchange.Declare):
            self._made.exchanges.add(method.exchange)


async def _greet(url: str) -> None:
    async with asyncio.timeout(_ANSWER_SECONDS), aiormq.connect(url):
        pass


class RabbitMQServer(OwnServer):
    """A RabbitMQ with the user guest; settings are lines of its `rabbitmq.conf`."""

    service, user, program = "rabbitmq", "rabbitmq", "rabbitmq-server"
    places = ("usr/lib/rabbitmq/bin",)

    def __init__(self) -> None:
        super().__init__()
        self._names_port, self._nodes_port = _free_port(), _free_port()
        self._names: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "/", driver: str = "amqp", user: str = "guest:guest") -> str:
        return f"{driver}://{user}@127.0.0.1:{self.port}{database}"

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._names is not None:
            self._names.kill()
            self._names.wait()

    def _install(self) -> None:
        for name in ("enabled_plugins", "rabbitmq.conf", "env.conf"):
            (self.folder / name).write_text("[]." if name == "enabled_plugins" else "")
        # Erlang would leave one behind for all nodes of the machine.
        epmd = (self._find("epmd"), "-port", str(self._names_port), "-address", "127.0.0.1")
        self._names = subprocess.Popen(self._as_user(epmd), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _command(self) -> list[str]:
        variables = {
            "HOME": self.folder,
            "RUNNING_UNDER_SYSTEMD": "1",  # no shell around it, which would be killed in its place
            "ERL_EPMD_PORT": self._names_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": self.folder / "env.conf",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "enabled_plugins",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": self._nodes_port,
            "RABBITMQ_MNESIA_BASE": self.data,
            "RABBITMQ_LOG_BASE": self.folder / "logs",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items()), self._find(self.program)]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        lines = {"listeners.tcp.1": f"127.0.0.1:{self.port}", **settings}
        (self.folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return []

    def _answers(self) -> bool:
        with suppress(OSError, TimeoutError):
            in_a_thread(_greet(self.url()))
            return True
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
