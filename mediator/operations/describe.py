"""The wiring report: what was found, who handles what, and what never leaves its module, what is deprecated."""

from collections.abc import Iterator

from contracts import Deprecation
from mediator.messaging.catalog import EventType
from mediator.messaging.registry import Registry, SubscriberEntry

__all__ = ["describe"]


def describe(registry: Registry) -> str:
    """The report as text."""
    return "\n".join(_lines(registry))


def _lines(registry: Registry) -> Iterator[str]:
    yield f"{registry.application} ({registry.environment})"
    for module in registry.modules:
        yield f"module {module}"
        yield from _module(registry, module)
    for known in registry.catalog:
        if (deprecated := known.topic.deprecated) is not None:
            yield from _deprecated(registry, known, deprecated)


def _module(registry: Registry, module: str) -> Iterator[str]:
    for kind, routes in (("command", registry.commands), ("query", registry.queries), ("stream", registry.streams)):
        for message_type, entry in routes.items():
            if entry.module == module:
                yield f"  {kind} {message_type.__name__} -> {entry.handler_class.__name__}"
    for owner, event in registry.domain_events:
        if owner == module:
            yield from _domain_event(registry, event)
    for subscriber in registry.subscribers:
        if subscriber.module == module:
            yield f"  handler {subscriber.id} <- {_heard(registry, subscriber)}"


def _domain_event(registry: Registry, event: type) -> Iterator[str]:
    handlers = [
        entry.handler_class.__name__
        for entry in registry.domain_event_handlers
        if issubclass(event, entry.message_type)
    ]
    converters = [entry for entry in registry.converters if issubclass(event, entry.domain_event)]
    yield f"  domain event {event.__name__} -> {', '.join(handlers) or 'no handler'}"
    for entry in converters:
        yield f"    {entry.converter_class.__name__} -> {_address(registry, entry.integration_event)}"
    if not converters:
        yield "    stays in the module: no converter"


def _heard(registry: Registry, subscriber: SubscriberEntry) -> str:
    if subscriber.topics:
        names = ", ".join(event.__name__ for event in subscriber.events)
        return f"{names} from {', '.join(subscriber.topics)}"
    return ", ".join(_address(registry, event) for event in subscriber.events)


def _address(registry: Registry, event: type) -> str:
    entry = registry.catalog.type_of(event)
    return f"{event.__name__} ({entry.address if entry else 'no topic'})"


def _deprecated(registry: Registry, entry: EventType, deprecated: Deprecation) -> Iterator[str]:
    until = f" until {deprecated.sunset}" if deprecated.sunset else ""
    instead = f", use {deprecated.replacement.__name__}" if deprecated.replacement else ""
    owner = f", of {entry.topic.owner}" if entry.topic.owner else ""
    yield f"deprecated {entry.event_class.__name__} since {deprecated.since}{until}{instead}{owner}"
    for converter in registry.converters:
        if converter.integration_event is entry.event_class:
            yield f"  made by {converter.module}: {converter.converter_class.__name__}"
    for subscriber in registry.subscribers:
        if any(registry.catalog.path(entry.event_class, wanted) is not None for wanted in subscriber.events):
            yield f"  read by {subscriber.id}"
