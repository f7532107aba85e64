"""Contracts in several states, as one file would have them over the years."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import create_model

from contracts import IntegrationEvent, PartitionKey, event_topic

__all__ = ["BASE", "order_placed"]

BASE: dict[str, Any] = {"order_id": (Annotated[UUID, PartitionKey()], ...), "total": (Decimal, ...)}


def order_placed(
    name: str = "OrderPlacedV1",
    /,
    *,
    topic: str | type = "orders",
    domain: str = "ordering",
    without: tuple[str, ...] = (),
    doc: str = "A customer placed an order.",
    fields: dict[str, Any] | None = None,
    **options: Any,
) -> type[IntegrationEvent]:
    """The class, with these fields beside or instead of the usual ones."""
    definitions = {key: value for key, value in {**BASE, **(fields or {})}.items() if key not in without}
    made = create_model(name, __base__=IntegrationEvent, __doc__=doc, **definitions)
    return event_topic(topic, domain=domain, **{"owner": "team-ordering", **options})(made)
