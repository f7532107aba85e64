"""Converters: the one place where a domain event becomes an integration event.

    class OrderPlacedConverter(IntegrationEventConverter[OrderPlaced, OrderPlacedV1]):
        def convert(self, event: OrderPlaced) -> OrderPlacedV1:
            return OrderPlacedV1(order_id=event.order_id, total=event.total)

A converter runs in the unit of work that the domain event was recorded in; if it raises, everything rolls back. A
domain event without a converter never leaves its module.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from contracts import IntegrationEvent
from mediator.domain import DomainEvent
from mediator.errors import EventRefusedError

__all__ = ["Converted", "IntegrationEventConverter", "Outgoing", "Publishable", "outgoing_of", "publishables"]

D_contra = TypeVar("D_contra", bound=DomainEvent, contravariant=True)
I_co = TypeVar("I_co", bound=IntegrationEvent, covariant=True)


@dataclass(frozen=True)
class Outgoing(Generic[I_co]):
    """An integration event with something said about its way."""

    event: I_co
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """Partition key instead of the one that the contract's fields give."""
    topic: str | None = None
    """Full topic address instead of the contract's."""
    delay: timedelta | None = None
    """Publish this much later than the commit, by the database's clock."""
    at: datetime | None = None
    """Publish at this time, which has a zone, by the database's clock; at once when it has passed."""
    callback: str | type[IntegrationEvent] | None = None
    """Where the handlers' answers go: a full topic address, or the event whose topic it is."""


Publishable: TypeAlias = IntegrationEvent | Outgoing[Any]

Converted: TypeAlias = I_co | Outgoing[I_co] | Iterable[I_co | Outgoing[I_co]] | None


class IntegrationEventConverter(ABC, Generic[D_contra, I_co]):
    """Turns one kind of domain event into one kind of integration event; found automatically."""

    @abstractmethod
    def convert(self, event: D_contra, /) -> "Converted[I_co] | Awaitable[Converted[I_co]]":
        """None, one, or several integration events; may be `async def`."""


def outgoing_of(publishable: Publishable) -> Outgoing[Any]:
    """The event with what is said about its way; raises EventRefusedError for anything else."""
    outgoing = publishable if isinstance(publishable, Outgoing) else Outgoing(publishable)
    if not isinstance(outgoing.event, IntegrationEvent):
        raise EventRefusedError(
            type(outgoing.event).__name__,
            "it is no IntegrationEvent",
            "Publish contracts; domain events have converters",
        )
    return outgoing


def publishables(result: Any, where: str) -> list[Publishable]:
    """What a converter or handler returned, as a list; raises EventRefusedError for anything else than events."""
    if result is None:
        return []
    if isinstance(result, (IntegrationEvent, Outgoing)):
        return [result]
    if isinstance(result, (str, bytes)) or not hasattr(result, "__iter__"):
        raise EventRefusedError(
            where, f"it returned {type(result).__name__}", "Return None, an integration event, an Outgoing, or several"
        )
    return [one for item in result for one in publishables(item, where)]
