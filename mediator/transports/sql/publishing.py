"""Publishing to sql://: one transaction for a batch, a row for each envelope and group that listens."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from mediator.errors import PublishRefusedError
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.patterns import listens
from mediator.messaging.transport import lane_of
from mediator.storage.database import Database
from mediator.storage.deliveries import insert_deliveries
from mediator.storage.routes import Routes, RoutesTable
from mediator.transports.sql.line import NAME

__all__ = ["Outcomes", "Publisher"]

Outcomes: TypeAlias = Sequence[tuple[Envelope, Exception | None]]
_LARGEST_BODY = 4 * 1024 * 1024
_LONGEST_KEY = 200


class Publisher:
    """Publishes to one database."""

    def __init__(
        self, database: Database, routes: RoutesTable, written: Callable[[Mapping[str, Collection[int]]], None]
    ) -> None:
        self._database, self._routes, self._written = database, routes, written
        self._version: Routes | None = None
        self._listening: dict[str, Sequence[str]] = {}
        """The groups that listen to a topic."""

    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        """What became of each; all that is not refused is committed by then, or this raises."""
        outcomes: list[tuple[Envelope, Exception | None]] = []
        rows: list[dict[str, Any]] = []
        written: dict[str, set[int]] = defaultdict(set)
        async with self._database.begin() as connection:
            routes = await self._routes.current(connection)
            refused_keys: dict[str, PublishRefusedError] = {}
            for envelope in batch:
                behind = None if envelope.key is None else refused_keys.get(envelope.key)
                error = behind or _refusal(routes, envelope)
                outcomes.append((envelope, error))
                if error is None:
                    self._add(routes, envelope, rows, written)
                elif envelope.key is not None:
                    refused_keys[envelope.key] = error
            if rows:
                await insert_deliveries(self._database.tables, connection, rows)
        self._written(written)
        return outcomes

    def _add(
        self, routes: Routes, envelope: Envelope, rows: list[dict[str, Any]], written: dict[str, set[int]]
    ) -> None:
        groups = self._groups(routes, envelope.topic)
        if not groups:
            return
        headers = json.dumps(to_headers(envelope))
        for group in groups:
            lane = lane_of(envelope, routes.lanes[group])
            written[group].add(lane)
            row = {"group_name": group, "lane": lane, "event_id": envelope.event_id, "topic": envelope.topic}
            rows.append(row | {"partition_key": envelope.key, "headers": headers, "body": envelope.body})

    def _groups(self, routes: Routes, topic: str) -> Sequence[str]:
        if self._version is not routes:
            self._version, self._listening = routes, {}
        if topic not in self._listening:
            self._listening[topic] = [
                group for group, heard in routes.heard.items() if group in routes.lanes and listens(heard, topic)
            ]
        return self._listening[topic]


def _refusal(routes: Routes, envelope: Envelope) -> PublishRefusedError | None:
    """What is wrong with an envelope: in a batch, the database would refuse all of them."""
    if envelope.topic not in routes.topics:
        why = (
            "nobody has provisioned this topic: start a process of the application that knows it, with the same tables"
        )
    elif len(envelope.body) > _LARGEST_BODY:
        why = f"its body has {len(envelope.body)} bytes, at most {_LARGEST_BODY}"
    elif envelope.key is not None and not _is_storable(envelope.key):
        why = f"its key is longer than {_LONGEST_KEY} characters, or no text that a database stores"
    else:
        return None
    return PublishRefusedError(NAME, envelope.topic, why)


def _is_storable(key: str) -> bool:
    # Almost every key is ASCII, and looking at each of its characters takes as long as the rest of the check.
    is_text = key.isascii() or not any("\ud800" <= one <= "\udfff" for one in key)
    return len(key) <= _LONGEST_KEY and "\0" not in key and is_text
