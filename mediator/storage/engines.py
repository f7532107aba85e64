"""Engines: what all connections of the toolkit have in common, whatever the database.

Errors that come through them are marked: a handler may have an engine of its own, whose troubles are the handler's.
What a marked error means (roll back and try again, or a fault) is for its server to say.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

from sqlalchemy import event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from mediator.errors import ClaimBusyError, CommitOutcomeUnknownError, SettingsError

__all__ = [
    "COMMIT_GUARD",
    "IDLE_SECONDS",
    "POOLED",
    "POOLER",
    "SESSION",
    "Server",
    "ServerSession",
    "UnsuitableError",
    "Weakness",
    "brief",
    "has_spilt_password",
    "is_answer",
    "is_connecting",
    "is_transient",
    "make_engine",
    "mark_as_outage",
    "shown",
    "was_cut_off",
]

COMMIT_GUARD = "mediator.commit_guard"
"""Under this name in `connection.info`: a function that is called before every commit and may refuse it."""
SESSION = "mediator.session"
"""Under this name in `connection.info`: the ServerSession."""
POOLER, POOLED = "a pooler", "relays need the server's own address: their locks belong to one connection"
"""A weakness: what answers is not the server itself, but something that numbers connections in its own way."""
_SERVER, _CONNECTING = "mediator_server", "mediator_connecting"
_POOL_PATIENCE_SECONDS = 60
IDLE_SECONDS = 10
"""How long a brief transaction may stand still."""
_SECRET = re.compile("pass|secret|token", re.IGNORECASE)


def has_spilt_password(url: URL) -> bool:
    """Whether a part of the password was taken for the host: what follows an @ that is not written as %40."""
    return url.host is not None and ("@" in url.host or re.search("@.*/", url.database or "") is not None)


def shown(url: URL) -> str:
    """A URL for people to read, without its secrets."""
    if has_spilt_password(url):
        url = url.set(host="***", database="***")
    hidden = {name: "hidden" for name in url.query if _SECRET.search(name)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


class Weakness(Exception):  # noqa: N818 - collected, not raised
    """A setting of the server under which a promise does not hold."""

    def __init__(self, setting: str, value: object, consequence: str) -> None:
        self.setting, self.value, self.consequence = setting, value, consequence
        super().__init__(f"{setting} = {value}: {consequence}")


class ServerSession(NamedTuple):
    """What the server knows of a connection."""

    number: int
    since: float
    """When it was made, by the clock of the event loop."""

    @classmethod
    def of(cls, number: int) -> "ServerSession":
        """A session that is made now."""
        return cls(number, asyncio.get_running_loop().time())

    @property
    def age_seconds(self) -> float:
        """How long ago it was made."""
        return asyncio.get_running_loop().time() - self.since


class UnsuitableError(Exception):
    """Why a database cannot be used, and what to do."""

    def __init__(self, why: str, fix: str) -> None:
        self.why, self.fix = why, fix
        super().__init__(why)


class Server(Protocol):
    """What is particular to a database, besides statements."""

    drivers: ClassVar[Mapping[str, str]]
    """The drivers that are supported, and the extra that installs each."""

    def objection(self, url: URL) -> str | None:
        """What to do about an option in the URL with which nothing works, or not as it should."""
        ...

    def options(self, url: URL, *, read_only: bool, autocommit: bool, brief: bool) -> dict[str, Any]:
        """What `create_async_engine` is given; `brief` transactions that stand still are ended by the server."""
        ...

    def prepare(self, engine: AsyncEngine, *, read_only: bool, brief: bool) -> None:
        """Listen to what has to be done for each connection."""
        ...

    async def check(self, connection: AsyncConnection) -> list[Weakness]:
        """What weakens promises; raises UnsuitableError for what makes them impossible."""
        ...

    def advice(self, error: BaseException) -> str:
        """What to do when connecting failed with this error."""
        ...

    def asks_to_repeat(self, error: BaseException) -> bool:
        """Whether this error of a statement means: roll back and try again."""
        ...


class _Pool(AsyncAdaptedQueuePool):
    """Marks its own time-outs, for which there is no event."""

    def _do_get(self) -> Any:
        try:
            return super()._do_get()
        except PoolTimeoutError as error:
            error.__dict__[_CONNECTING] = True
            raise


def make_engine(
    server: Server,
    url: URL,
    *,
    size: int | None,
    read_only: bool = False,
    autocommit: bool = False,
    brief: bool = False,
) -> AsyncEngine:
    """An engine with a pool of `size` connections; None makes one connection at a time and keeps none.

    Transactions that are `brief` hold nobody up for ever when their process is stopped in the midst of one.
    """
    pool: dict[str, Any] = {"poolclass": NullPool}
    if size is not None:
        pool = {"poolclass": _Pool, "pool_size": size, "max_overflow": 0, "pool_timeout": _POOL_PATIENCE_SECONDS}
    options = {**pool, **server.options(url, read_only=read_only, autocommit=autocommit, brief=brief)}
    try:
        engine = create_async_engine(url, hide_parameters=True, **options)
    except ModuleNotFoundError as error:
        extra = server.drivers[url.get_driver_name()]
        fix = f"its driver {error.name} is not installed: install mediator-toolkit[{extra}]"
        raise SettingsError("database", shown(url), fix) from error
    except (ValueError, ArgumentError) as error:
        raise SettingsError("database", shown(url), f"correct the options in the URL: {error}") from error
    _mark_errors(server, engine)

    @event.listens_for(engine.sync_engine, "commit")
    def guard_commit(connection: Any) -> None:
        if COMMIT_GUARD in connection.info:
            try:
                connection.info[COMMIT_GUARD]()
            except BaseException:
                # SQLAlchemy takes the transaction for ended and would hand the connection on with it, still open.
                connection.connection.dbapi_connection.rollback()
                raise

    server.prepare(engine, read_only=read_only, brief=brief)
    return engine


def _mark_errors(server: Server, engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "handle_error")
    def mark(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        error.__dict__[_SERVER] = server
        error.__dict__[_CONNECTING] = context.connection is None

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        # Some drivers raise what SQLAlchemy does not take for an error of theirs.
        try:
            return dialect.connect(*arguments, **options)
        except Exception as error:
            error.__dict__[_CONNECTING] = True
            raise


def mark_as_outage(error: BaseException) -> None:
    """Mark an error that passed by SQLAlchemy: the connection was lost."""
    error.__dict__[_CONNECTING] = True


def brief(error: BaseException) -> str:
    """What a driver says, in one line."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split()).rstrip(".")


def is_answer(error: BaseException) -> bool:
    """Whether a server of PostgreSQL said this, and not the driver by itself."""
    return bool(getattr(getattr(error, "orig", None), "sqlstate", None))


def is_connecting(error: BaseException) -> bool:
    """Whether a connection of the toolkit could not be made, or not be had."""
    return bool(error.__dict__.get(_CONNECTING))


def is_transient(error: BaseException) -> bool:
    """Whether the database asks to roll back and try again: no fault of the handler, so no attempt is counted.

    True as well when nobody knows whether the commit happened: the claim of the next attempt finds it out.
    """
    if is_connecting(error) or isinstance(error, (ClaimBusyError, CommitOutcomeUnknownError)):
        return True
    server: Server | None = error.__dict__.get(_SERVER)
    if server is None:
        return False
    return was_cut_off(error) or server.asks_to_repeat(error)


def was_cut_off(error: BaseException) -> bool:
    """Whether the connection was lost; some drivers let the operating system's error through."""
    return isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
