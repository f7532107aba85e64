"""Causation trees: everything that one correlation id set off, drawn from what the tables know.

    command PlaceOrder
      └─ OrderPlaced (Order 42) → OrderPlacedV1
           └─ inventory.reserve-stock
                └─ StockReserved (Stock KB-01) → StockReservedV1

Integration events come from the outbox and the history, handlers from the inbox and from what is parked; so the tree
reaches as far back as those are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from mediator.storage.database import Database

__all__ = ["LineageNode", "lineage_of"]


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A command, an integration event, or a handler, and what it led to."""

    kind: str
    """`command`, `event` or `handler`."""
    name: str
    detail: str
    children: "tuple[LineageNode, ...]"

    def lines(self, indent: str = "") -> Iterator[str]:
        """The tree as text."""
        yield f"{indent}{self.kind} {self.name}{f' ({self.detail})' if self.detail else ''}"
        for child in self.children:
            yield from child.lines(indent + "  ")


async def lineage_of(databases: Sequence[Database], correlation_id: str) -> Sequence[LineageNode]:
    """The trees of a correlation id: one for each command or foreign event that began one."""
    events: list[dict[str, Any]] = []
    handlers: dict[UUID, list[tuple[str, str]]] = {}
    for database in databases:
        tables = database.tables
        async with database.read() as connection:
            for table in (tables.outbox, tables.sent):
                wanted = select(
                    *(table.c[name] for name in ("event_id", "causation_id", "cause", "type", "version")),
                    *(table.c[name] for name in ("converter", "domain_event_type", "aggregate_type", "aggregate_id")),
                ).where(table.c.correlation_id == correlation_id)
                events.extend(dict(row) for row in (await connection.execute(wanted)).mappings())
    # All events first: a handler's rows may lie in another database than the event that it handled.
    known = [event["event_id"] for event in events]
    for database in databases:
        tables = database.tables
        async with database.read() as connection:
            parked = tables.parked.c
            for subscriber_id, event_id, status in await connection.execute(
                select(parked.subscriber_id, parked.event_id, parked.status).where(parked.event_id.in_(known))
            ):
                handlers.setdefault(event_id, []).append((subscriber_id, status))
            inbox = tables.inbox.c
            for subscriber_id, event_id in await connection.execute(
                select(inbox.subscriber_id, inbox.event_id).where(inbox.event_id.in_(known))
            ):
                if all(subscriber_id != name for name, _ in handlers.get(event_id, ())):
                    handlers.setdefault(event_id, []).append((subscriber_id, ""))
    events.sort(key=lambda event: event["event_id"])
    ids = {str(event["event_id"]) for event in events}
    roots = {(event["causation_id"], event["cause"]) for event in events if event["causation_id"] not in ids}
    return [
        LineageNode("command", cause, "", tuple(_caused_by(events, handlers, causation_id, cause)))
        for causation_id, cause in sorted(roots)
    ]


def _caused_by(
    events: Sequence[dict[str, Any]], handlers: dict[UUID, list[tuple[str, str]]], causation_id: str, cause: str
) -> Iterator[LineageNode]:
    for event in events:
        if event["causation_id"] == causation_id and event["cause"] == cause:
            below = (
                LineageNode("handler", name, status, tuple(_caused_by(events, handlers, str(event["event_id"]), name)))
                for name, status in sorted(handlers.get(event["event_id"], ()))
            )
            yield LineageNode(
                "event", f"{event['type']}.{event['version']}".rstrip("."), _by_way_of(event), tuple(below)
            )


def _by_way_of(event: dict[str, Any]) -> str:
    if event["domain_event_type"] is None:
        return ""
    aggregate = " ".join(part for part in (event["aggregate_type"], event["aggregate_id"]) if part)
    return f"{event['domain_event_type']} of {aggregate}, by {event['converter']}"
