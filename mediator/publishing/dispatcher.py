"""Domain events and their way: to handlers first, then to converters, all in the unit of work that recorded them.

An event goes to the handlers and converters of its own type and of its bases, one after the other, in the order of
modules and definitions. What it leads to is looked up once per type.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sqlalchemy import inspect as inspect_mapped

from contracts import IntegrationEvent
from mediator.application import Outgoing, Publishable, UnitOfWork
from mediator.application.converters import publishables
from mediator.domain import AggregateRoot, DomainEvent
from mediator.errors import EventRefusedError
from mediator.messaging.handling import Build
from mediator.messaging.invocation import Invoke, compile_invocation
from mediator.messaging.registry import Registry
from mediator.publishing.outbox import Origin

__all__ = ["DispatchingUnitOfWork", "DomainEventDispatcher", "RaisedEvent"]


class DispatchingUnitOfWork(UnitOfWork, Protocol):
    """A unit of work whose domain events are dispatched."""

    def publish_from(self, origin: Origin, event: Publishable) -> None:
        """Publish what a converter made."""
        ...


@dataclass(frozen=True, slots=True)
class RaisedEvent:
    """A domain event on its way, and the one whose handlers recorded it."""

    event: DomainEvent
    aggregate: AggregateRoot
    event_id: UUID
    parent: "RaisedEvent | None"

    @property
    def depth(self) -> int:
        """How many events led here, this one included."""
        return 1 if self.parent is None else self.parent.depth + 1

    def chain(self) -> list[str]:
        """The names of the events that led here, first to last."""
        return [*(self.parent.chain() if self.parent else []), type(self.event).__name__]


@dataclass(frozen=True, slots=True)
class _Route:
    handlers: Sequence[tuple[Build, Invoke]]
    converters: Sequence[tuple[str, type[IntegrationEvent], Build, Invoke]]


class DomainEventDispatcher:
    """Calls what is registered for a domain event."""

    def __init__(self, registry: Registry, plans: Callable[[type], Build]) -> None:
        self._registry = registry
        self._plans = plans
        self._routes: dict[type[DomainEvent], _Route] = {}

    async def dispatch(self, raised: RaisedEvent, uow: DispatchingUnitOfWork) -> None:
        """Run the event's handlers, then collect what its converters make of it."""
        route = self._route(type(raised.event))
        for build, invoke in route.handlers:
            await invoke(build(uow), raised.event, uow)
        for name, declared, build, invoke in route.converters:
            for publishable in publishables(await invoke(build(uow), raised.event, uow), name):
                event = publishable.event if isinstance(publishable, Outgoing) else publishable
                if not isinstance(event, declared):
                    what = f"converter {name} declares {declared.__qualname__}"
                    raise EventRefusedError(type(event).__qualname__, what, "Write a converter for each contract")
                uow.publish_from(_origin(name, raised), publishable)

    def _route(self, event_type: type[DomainEvent]) -> _Route:
        route = self._routes.get(event_type)
        if route is None:
            handlers = [
                entry for entry in self._registry.domain_event_handlers if issubclass(event_type, entry.message_type)
            ]
            converters = [entry for entry in self._registry.converters if issubclass(event_type, entry.domain_event)]
            route = self._routes[event_type] = _Route(
                [(self._plans(entry.handler_class), compile_invocation(entry.handler_class)) for entry in handlers],
                [
                    (one.__qualname__, declared, self._plans(one), compile_invocation(one, "convert"))
                    for one, declared in ((entry.converter_class, entry.integration_event) for entry in converters)
                ],
            )
        return route


def _origin(converter: str, raised: RaisedEvent) -> Origin:
    # Without loading: after a savepoint was rolled back, every attribute is expired.
    state = inspect_mapped(raised.aggregate, raiseerr=False)
    mapped = None if state is None or state.identity is None else state.identity
    identity = raised.aggregate.__dict__.get("id") if mapped is None else ", ".join(map(str, mapped))
    return Origin(
        converter=converter[:200],
        domain_event_type=type(raised.event).__name__[:200],
        aggregate_type=type(raised.aggregate).__name__[:200],
        aggregate_id=None if identity is None else str(identity)[:200],
    )
