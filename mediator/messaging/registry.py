"""The registry: all that was found in the modules, in one immutable place.

Whatever describes the system (the wiring report, commands, diagrams, documents) reads this and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from contracts import IntegrationEvent, Upcaster
from mediator.application import CircuitBreaker, RetryPolicy
from mediator.domain import DomainEvent
from mediator.messaging.catalog import EventCatalog

__all__ = ["ConverterEntry", "HandlerEntry", "Registry", "SubscriberEntry"]


@dataclass(frozen=True, slots=True)
class HandlerEntry:
    """A handler (or validator) class, what it takes, and the module it belongs to."""

    module: str
    handler_class: type[Any]
    message_type: type[Any]


@dataclass(frozen=True, slots=True)
class ConverterEntry:
    """A converter class and the pair that it connects."""

    module: str
    converter_class: type[Any]
    domain_event: type[DomainEvent]
    integration_event: type[IntegrationEvent]


@dataclass(frozen=True, slots=True)
class SubscriberEntry:
    """A handler of integration events, as the inbox knows it."""

    id: str
    module: str
    handler_class: type[Any]
    events: tuple[type[IntegrationEvent], ...]
    topics: tuple[str, ...]
    """Addresses and patterns that it listens to; none means the topics of its events."""
    aliases: tuple[str, ...]
    retry: RetryPolicy
    circuit_breaker: CircuitBreaker | None
    ordering: Literal["key", "none"]
    when_dead: Literal["block", "skip"]
    concurrency: int
    timeout: timedelta
    broadcast: bool
    blocking: bool
    max_batch: int
    takes_batches: bool
    """Whether its `handle` takes a list of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What the application consists of."""

    application: str
    environment: str
    modules: tuple[str, ...]
    commands: Mapping[type[Any], HandlerEntry]
    queries: Mapping[type[Any], HandlerEntry]
    streams: Mapping[type[Any], HandlerEntry]
    validators: tuple[HandlerEntry, ...]
    domain_events: tuple[tuple[str, type[DomainEvent]], ...]
    domain_event_handlers: tuple[HandlerEntry, ...]
    converters: tuple[ConverterEntry, ...]
    subscribers: tuple[SubscriberEntry, ...]
    upcasters: tuple[Upcaster, ...]
    catalog: EventCatalog

    def skips_dead(self, subscriber_id: str) -> bool:
        """Whether a subscriber, or an instance's own one, goes on without the dead events of a key."""
        handler = subscriber_id.partition("@")[0]
        return any(entry.when_dead == "skip" for entry in self.subscribers if entry.id == handler)

    def topics_of(self, subscriber: SubscriberEntry) -> frozenset[str]:
        """Addresses and patterns that a subscriber listens to: those of its events include their former versions."""
        if subscriber.topics:
            return frozenset(subscriber.topics)
        return frozenset(
            known.address
            for known in self.catalog
            for wanted in subscriber.events
            if self.catalog.path(known.event_class, wanted) is not None
        )
