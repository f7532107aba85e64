"""Database servers of a test's own: to be killed and started again, and to have settings that nobody shares.

    with PostgreSQLServer() as server:
        server.start(fsync="off")
        server.kill()
        server.start()

Their files are in a temporary folder, and they end with the process that started them, however that ends.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

from sqlalchemy.exc import DBAPIError

from tests.support.databases import Unreachable, execute

__all__ = ["MariaDBServer", "OwnServer", "PostgreSQLServer"]

_START_SECONDS = 60


class OwnServer(ABC):
    """A server on a port of its own, empty at first."""

    service: ClassVar[str]
    """What is counted as missing where it cannot be started."""
    user: ClassVar[str]
    """Who it runs as when the tests run as root, which servers refuse."""
    program: ClassVar[str]
    places: ClassVar[Sequence[str]]
    """Where Debian has its programs, if not on the path."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def __enter__(self) -> Self:
        self._find(self.program)
        self.folder = Path(tempfile.mkdtemp(prefix="mediator_test_"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self.data = self.folder / "data"
        self._install()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self, **settings: object) -> None:
        """Start it with these settings; returns when it answers."""
        assert self._process is None, "it runs already"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            # What a killed server leaves behind may stand in the way for a moment: then it ends again.
            log = (self.folder / "log").open("ab")
            with log:
                command = self._as_user([*self._command(), *self._options(settings)])
                self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
            while self._process.poll() is None and not self._answers():
                self._check_patience(deadline)
                time.sleep(0.05)
            if self._process.poll() is None:
                return
            self._check_patience(deadline)

    def kill(self) -> None:
        """End it as a loss of power would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an administrator does who does not wait for clients."""
        self._end(self._fast_stop)

    def pause(self) -> None:
        """Let it answer nobody, as a machine that hangs; returns when it has stopped, and does not answer any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @abstractmethod
    def url(self, database: str = "", driver: str = "", user: str = "") -> str:
        """The URL of one of its databases."""

    _fast_stop: ClassVar[signal.Signals] = signal.SIGTERM

    @abstractmethod
    def _install(self) -> None:
        """Make its files."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _options(self, settings: Mapping[str, object]) -> list[str]: ...

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def _answers(self) -> bool:
        with suppress(DBAPIError, OSError):
            return bool(execute(self.url(), "SELECT 1"))
        return False

    def _check_patience(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{self.program} does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def _run(self, *command: str) -> None:
        done = subprocess.run(self._as_user(command), cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _as_user(self, command: Sequence[str]) -> list[str]:
        account = pwd.getpwnam(self.user)
        who = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return ["setpriv", "--pdeathsig=QUIT", *(who if os.geteuid() == 0 else []), *command]

    def _find(self, program: str) -> str:
        folders = [str(folder) for place in self.places for folder in sorted(Path("/").glob(place), reverse=True)]
        found = shutil.which(program, path=os.pathsep.join([*folders, *os.get_exec_path()]))
        if found is None or shutil.which("setpriv") is None:
            raise Unreachable(self.service, f"{program} and setpriv are needed to start a server: install them")
        return found


class PostgreSQLServer(OwnServer):
    """A PostgreSQL whose superuser `postgres` needs no password; `of` makes it a standby of another one."""

    service, user, program = "postgresql", "postgres", "postgres"
    places = ("usr/lib/postgresql/*/bin",)
    _fast_stop = signal.SIGINT

    def __init__(self, of: "PostgreSQLServer | None" = None) -> None:
        super().__init__()
        self._primary = of

    def url(self, database: str = "postgres", driver: str = "asyncpg", user: str = "postgres") -> str:
        return f"postgresql+{driver}://{user}@127.0.0.1:{self.port}/{database}"

    def _install(self) -> None:
        if self._primary is None:
            options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
            self._run(self._find("initdb"), "-D", str(self.data), *options)
            return
        primary = f"host=127.0.0.1 port={self._primary.port} user=postgres"
        self._run(self._find("pg_basebackup"), "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", primary)

    def _command(self) -> list[str]:
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-D", str(self.data))
        return [self._find("postgres"), *place, "-c", "shared_buffers=16MB"]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


class MariaDBServer(OwnServer):
    """A MariaDB whose `root` needs no password."""

    service, user, program = "mariadb", "mysql", "mariadbd"
    places = ("usr/sbin",)

    def url(self, database: str = "mysql", driver: str = "asyncmy", user: str = "root") -> str:
        return f"mariadb+{driver}://{user}@127.0.0.1:{self.port}/{database}"

    def _install(self) -> None:
        options = ("--auth-root-authentication-method=normal", "--skip-test-db", *self._small, self._apart)
        self._run(self._find("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}", *options)

    @property
    def _apart(self) -> str:
        # A server that starts removes what it takes for remains of itself: the temporary tables of all in one folder.
        return f"--tmpdir={self.folder}"

    _small = ("--innodb-log-file-size=10M", "--innodb-buffer-pool-size=16M", "--performance-schema=OFF")

    def _command(self) -> list[str]:
        place = (f"--datadir={self.data}", f"--port={self.port}", f"--socket={self.folder / 'socket'}")
        who = ("--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={self.folder / 'pid'}")
        return [self._find("mariadbd"), "--no-defaults", *place, *who, *self._small, self._apart]

    def _options(self, settings: Mapping[str, object]) -> list[str]:
        return [f"--{name}={value}" for name, value in settings.items()]
