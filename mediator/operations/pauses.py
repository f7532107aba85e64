"""Pauses: handlers and relays that rest until somebody lets them work again.

A pause of this process ends with it. One that holds everywhere is a row of the table `meta`, which every process looks
at each second; it outlives restarts.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from hashlib import md5
from typing import Any, Final, cast

import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError

from mediator.messaging.supervision import background, every
from mediator.operations import audit as trail
from mediator.storage.database import Database
from mediator.storage.engines import is_transient

__all__ = ["RELAY", "Pauses"]

RELAY: Final = "@relay"
"""Names the relays in a pause; no handler or module can have this name."""
_PREFIX = "paused."
_LOOK_SECONDS = 1.0
log = structlog.get_logger(__name__)


class Pauses:
    """Who rests. A name is that of a handler, of a module, or RELAY; `handlers_of` says whom it means."""

    def __init__(
        self, database: Database, handlers_of: Callable[[str], Collection[str]], has_ended: Callable[[], None]
    ) -> None:
        self.active: set[str] = set()
        """The ids of the handlers that rest now, and RELAY."""
        self._database, self._handlers_of, self._has_ended = database, handlers_of, has_ended
        self._here: set[str] = set()
        self._everywhere: set[str] = set()

    def begin(self, name: str) -> None:
        """Pause in this process."""
        self._here.add(name)
        self._apply()

    def end(self, name: str) -> None:
        """End what `begin` began."""
        self._here.discard(name)
        self._apply()

    async def begin_everywhere(self, name: str, actor: str, reason: str | None) -> None:
        """Pause in every process, written to the audit trail."""
        try:
            async with self._database.begin() as connection:
                row = {"name": _row_of(name), "value": name}
                await connection.execute(insert(self._database.tables.meta), [row])
                await trail.record(
                    connection, self._database.tables, actor=actor, action="pause", subject=name, reason=reason
                )
        except IntegrityError:
            log.info("pause.known", name=name)
        await self.look()

    async def end_everywhere(self, name: str, actor: str, reason: str | None) -> None:
        """End what `begin_everywhere` began."""
        meta = self._database.tables.meta
        async with self._database.begin() as connection:
            ended = await connection.execute(delete(meta).where(meta.c.name == _row_of(name)))
            if cast("CursorResult[Any]", ended).rowcount:
                await trail.record(
                    connection, self._database.tables, actor=actor, action="resume", subject=name, reason=reason
                )
        await self.look()

    async def look(self) -> None:
        """Learn what holds everywhere."""
        meta = self._database.tables.meta.c
        async with self._database.read() as connection:
            self._everywhere = set(await connection.scalars(select(meta.value).where(meta.name.startswith(_PREFIX))))
        self._apply()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look now, and again each second."""
        await self.look()
        async with background("pauses", every(_LOOK_SECONDS, self.look), is_outage=is_transient):
            yield

    def _apply(self) -> None:
        wanted = {one for name in self._here | self._everywhere for one in self._handlers_of(name)}
        if begun := wanted - self.active:
            log.info("pause.began", names=sorted(begun))
        ended = self.active - wanted
        self.active |= wanted
        self.active -= ended
        if ended:
            log.info("pause.ended", names=sorted(ended))
            self._has_ended()


def _row_of(name: str) -> str:
    # As long as the column is for names of every length.
    return _PREFIX + md5(name.encode(), usedforsecurity=False).hexdigest()
