"""What is known of an event, in one model that every document is made from.

    documents = documents_of(app_registry)                       with producers and consumers
    documents = documents_of_contracts("shop", [OrderPlacedV1])  a contracts package alone: nobody knows who uses it

Producers are the modules with a converter for the event, or with a handler whose `handle` says that it returns the
event. What is published by hand, with `uow.publish(...)`, is in no signature, and not seen here. Consumers include
those that have upcasters lead to the version that they want.

Nothing is opened or started for it, and nothing in it depends on the time or the machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from itertools import pairwise
from typing import Any, Literal, get_args, get_type_hints

from contracts import Deprecation, IntegrationEvent, has_topic, topic_of
from mediator.errors import SettingsError
from mediator.messaging.patterns import listens
from mediator.messaging.registry import Registry
from mediator.operations.documents.examples import example_of
from mediator.operations.documents.fields import FieldDocument, fields_of
from mediator.operations.documents.prose import paragraphs
from mediator.operations.documents.sizes import Size, size_of

__all__ = [
    "ENVIRONMENT",
    "Consumer",
    "EventDocument",
    "EventDocuments",
    "Producer",
    "documents_of",
    "documents_of_contracts",
]

ENVIRONMENT = "{environment}"
"""Stands in addresses for what each environment puts there."""


@dataclass(frozen=True, slots=True)
class Producer:
    """A class that makes the event, and its module."""

    module: str
    made_by: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """A subscriber that receives the event."""

    module: str
    subscriber_id: str
    reads_as: str
    """Slug of the version that upcasters turn it into; the event's own when there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDocument:
    """All that is said of one version of an event."""

    event_class: type[IntegrationEvent]
    name: str
    type: str
    version: str
    domain: str
    channel: str
    """The topic's address without its environment."""
    scope: str
    local: bool
    """Whether it never leaves its application."""
    owner: str
    description: str
    status: Literal["current", "superseded", "deprecated"]
    newer: str
    """Slug of the version that supersedes it, if there is one."""
    deprecation: Deprecation | None
    partition_keys: tuple[str, ...]
    fields: tuple[FieldDocument, ...]
    example: Mapping[str, Any] | None
    size: Size
    producers: tuple[Producer, ...] | None
    """None when no application was asked."""
    consumers: tuple[Consumer, ...] | None

    @property
    def slug(self) -> str:
        """Names it among all events; fit for file names."""
        return _slug(self.event_class)

    @property
    def address(self) -> str:
        return f"{ENVIRONMENT}.{self.channel}"

    @property
    def summary(self) -> str:
        """The first paragraph of the description, on one line."""
        return " ".join(next(iter(paragraphs(self.description)), ()))

    @property
    def replacement(self) -> str:
        """Slug of what to use instead, as its deprecation says."""
        use = self.deprecation.replacement if self.deprecation else None
        return _slug(use) if use is not None and has_topic(use) else ""

    @property
    def status_words(self) -> str:
        """The status in a sentence's words, with its dates."""
        if self.deprecation is None:
            return f"superseded by {self.newer}" if self.newer else "current"
        until = f", not to be counted on from {self.deprecation.sunset}" if self.deprecation.sunset else ""
        instead = f"; use {self.replacement} instead" if self.replacement else ""
        return f"deprecated from {self.deprecation.since}{until}{instead}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDocuments:
    """Every event of an application, or of a contracts package, in a fixed order."""

    title: str
    modules: tuple[str, ...]
    events: tuple[EventDocument, ...]

    def sent_by(self, module: str) -> Iterator[EventDocument]:
        """The events that a module is known to publish."""
        return (event for event in self.events if any(one.module == module for one in event.producers or ()))

    def received_by(self, module: str) -> Iterator[EventDocument]:
        return (event for event in self.events if any(one.module == module for one in event.consumers or ()))

    def named(self, slug: str) -> EventDocument | None:
        return next((event for event in self.events if event.slug == slug), None)


def documents_of(registry: Registry) -> EventDocuments:
    """Everything that an application publishes or handles."""
    events = [entry.event_class for entry in registry.catalog]
    documents = [
        _document(event, events, _producers(registry, event), _consumers(registry, event)) for event in _sorted(events)
    ]
    return EventDocuments(title=registry.application, modules=tuple(registry.modules), events=tuple(documents))


def documents_of_contracts(title: str, events: Iterable[type[IntegrationEvent]]) -> EventDocuments:
    """Contracts alone, without an application."""
    events = _sorted(dict.fromkeys(events))
    for one, other in pairwise(events):
        if _slug(one) == _slug(other):
            fix = (
                f"{one.__qualname__} and {other.__qualname__} are both called so: pass name= or version= to one's topic"
            )
            raise SettingsError("events", _slug(one), fix)
    return EventDocuments(
        title=title, modules=(), events=tuple(_document(event, events, None, None) for event in events)
    )


def _document(
    event: type[IntegrationEvent],
    events: Iterable[type[IntegrationEvent]],
    producers: tuple[Producer, ...] | None,
    consumers: tuple[Consumer, ...] | None,
) -> EventDocument:
    topic = topic_of(event)
    versions = [other for other in events if topic_of(other).type == topic.type]
    newest = max(versions, key=lambda other: topic_of(other).version_number)
    newer = "" if newest is event else _slug(newest)
    fields = fields_of(event)
    keys = sorted((field.key, field.path) for field in fields if field.key is not None)
    return EventDocument(
        event_class=event,
        name=event.__name__,
        type=topic.type,
        version=topic.version,
        domain=topic.domain,
        channel=topic.address("x").partition(".")[2],
        scope=topic.scope,
        local=topic.local,
        owner=topic.owner,
        description=cleandoc(event.__doc__ or ""),
        status="deprecated" if topic.deprecated else "superseded" if newer else "current",
        newer=newer,
        deprecation=topic.deprecated,
        partition_keys=tuple(path for _, path in keys),
        fields=fields,
        example=example_of(event),
        size=size_of(event),
        producers=producers,
        consumers=consumers,
    )


def _producers(registry: Registry, event: type[IntegrationEvent]) -> tuple[Producer, ...]:
    found = {
        Producer(entry.module, entry.converter_class.__name__)
        for entry in registry.converters
        if entry.integration_event is event
    }
    found |= {
        Producer(entry.module, entry.handler_class.__name__)
        for entry in registry.subscribers
        if event in _named_in(_returned_by(entry.handler_class))
    }
    return tuple(sorted(found, key=lambda one: (one.module, one.made_by)))


def _returned_by(handler_class: type[Any]) -> Any:
    try:
        return get_type_hints(handler_class.handle).get("return")
    except (NameError, TypeError):
        # An annotation that only a type checker can follow says nothing here.
        return None


def _named_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _named_in(argument)


def _consumers(registry: Registry, event: type[IntegrationEvent]) -> tuple[Consumer, ...]:
    entry = registry.catalog.type_of(event)
    found = [
        Consumer(subscriber.module, subscriber.id, _slug(event if wanted is IntegrationEvent else wanted))
        for subscriber in registry.subscribers
        if entry is not None and (not subscriber.topics or listens(subscriber.topics, entry.address))
        for wanted in subscriber.events
        if wanted is IntegrationEvent or registry.catalog.path(event, wanted) is not None
    ]
    # Who handles several versions is given each as it is.
    as_it_is = {one.subscriber_id for one in found if one.reads_as == _slug(event)}
    kept = {one for one in found if one.reads_as == _slug(event) or one.subscriber_id not in as_it_is}
    return tuple(sorted(kept, key=lambda one: (one.module, one.subscriber_id, one.reads_as)))


def _sorted(events: Iterable[type[IntegrationEvent]]) -> list[type[IntegrationEvent]]:
    return sorted(events, key=lambda event: (topic_of(event).type, topic_of(event).version_number))


def _slug(event: type[IntegrationEvent]) -> str:
    return topic_of(event).full_type
