"""A Redis of a test's own, to be killed and started again."""

import socket
from collections.abc import Mapping
from contextlib import suppress

from tests.support.own_servers import OwnServer

__all__ = ["RedisServer"]

_PING_SECONDS = 1


class RedisServer(OwnServer):
    """A Redis that writes everything down, unless it is told otherwise."""

    service, user, program = "redis", "nobody", "redis-server"
    places = ("usr/bin",)

    def url(self, database: str = "0", driver: str = "", user: str = "") -> str:
        return f"redis://{user and f'{user}@'}127.0.0.1:{self.port}/{database}"

    def _install(self) -> None:
        # It makes its files in the folder where it is started.
        self.data = self.folder

    def _command(self) -> list[str]:
        place = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data))
        return [self._find(self.program), *place, "--save", "", "--appendonly", "yes"]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        return [part for name, value in settings.items() for part in (f"--{name}", *str(value).split())]

    def _answers(self) -> bool:
        # One that asks for a password or loads its files answers as well; it is ready when it no longer loads.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), _PING_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(20).startswith((b"+PONG", b"-NOAUTH"))
        return False
