"""Routes of the transport sql://: which topics may be published to, which groups there are and what they listen to.

Publishing reads them in the transaction that inserts, so that a group misses nothing from the moment on at which it was
provisioned, whoever provisioned it. What is read each time is their version alone, a row of the table `meta`: whoever
changes them raises it in the same transaction, and holds that row meanwhile, so that one process at a time does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.database import Database
from mediator.storage.tables import Tables

__all__ = ["ROUTES", "Heard", "Routes", "RoutesTable"]

ROUTES = "routes"
"""The row of `meta` that holds the version of the routes."""
_NOBODY = ""
"""In place of a group: the topic may be published to."""
Heard: TypeAlias = Mapping[str, Collection[str]]
"""What each group listens to."""


@dataclass(frozen=True)
class Routes:
    """The routes as they were at one version."""

    version: str | None = None
    topics: frozenset[str] = frozenset()
    heard: Heard = field(default_factory=dict)
    lanes: Mapping[str, int] = field(default_factory=dict)
    """How many each group has."""

    def missing(self, topics: Collection[str], groups: Heard) -> tuple[set[str], dict[str, set[str]]]:
        """Which of these topics, and of what these groups listen to, there is not."""
        lacking = {group: set(wanted) - set(self.heard.get(group, ())) for group, wanted in groups.items()}
        return set(topics) - self.topics, {
            group: more for group, more in lacking.items() if more or group not in self.lanes
        }


class RoutesTable:
    """Statements on the routes of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        tables = database.tables
        self._version = _version_of(tables)
        self._known = Routes()

    async def current(self, connection: AsyncConnection) -> Routes:
        """The routes as this statement's transaction sees them; read anew only if their version has changed."""
        version = await connection.scalar(self._version)
        if version is None or version != self._known.version:
            # The version first: what is changed in between has another one, and is read again the next time.
            self._known = await self._read(connection, version)
        return self._known

    async def add(self, topics: Collection[str], groups: Heard, lanes: int) -> Routes:
        """Add what is missing; gives the routes as they are then. Those of others stay."""
        async with self._database.begin() as connection:
            before = await self._locked(connection)
            new_topics, new_heard = before.missing(topics, groups)
            if not new_topics and not new_heard:
                return before
            tables = self._database.tables
            rows = [{"group_name": _NOBODY, "topic": topic} for topic in sorted(new_topics)]
            rows += [{"group_name": group, "topic": one} for group in sorted(new_heard) for one in new_heard[group]]
            if rows:
                await connection.execute(insert(tables.routes).inline(), rows)
            new_groups = sorted(new_heard.keys() - before.lanes.keys())
            if new_groups:
                every = [{"group_name": group, "lane": lane} for group in new_groups for lane in range(lanes)]
                await connection.execute(insert(tables.lanes).inline(), every)
            return await self._read(connection, await self._raise(connection, before))

    async def remove(self, group: str) -> bool:
        """Remove a group, so that nothing is kept for it any more; False when there is none."""
        async with self._database.begin() as connection:
            before, tables = await self._locked(connection), self._database.tables
            await connection.execute(delete(tables.routes).where(tables.routes.c.group_name == group))
            removed = await connection.execute(delete(tables.lanes).where(tables.lanes.c.group_name == group))
            await self._raise(connection, before)
        return cast("CursorResult[Any]", removed).rowcount > 0

    async def _locked(self, connection: AsyncConnection) -> Routes:
        # On SQLite the transaction is alone anyway.
        version = await connection.scalar(self._version.with_for_update())
        return await self._read(connection, version)

    async def _raise(self, connection: AsyncConnection, before: Routes) -> str:
        meta, version = self._database.tables.meta, str(int(before.version or 0) + 1)
        await connection.execute(update(meta).where(meta.c.name == ROUTES).values(value=version))
        return version

    async def _read(self, connection: AsyncConnection, version: str | None) -> Routes:
        routes, lanes = self._database.tables.routes.c, self._database.tables.lanes.c
        topics: set[str] = set()
        heard: dict[str, set[str]] = {}
        for group, topic in await connection.execute(select(routes.group_name, routes.topic)):
            (topics if group == _NOBODY else heard.setdefault(group, set())).add(topic)
        counted = await connection.execute(select(lanes.group_name, func.count()).group_by(lanes.group_name))
        return Routes(version, frozenset(topics), heard, {group: count for group, count in counted})  # noqa: C416


def _version_of(tables: Tables) -> Any:
    meta = tables.meta.c
    return select(meta.value).where(meta.name == ROUTES)
