"""A subscriber: one handler of integration events, as the inbox knows it, ready to run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contracts import IntegrationEvent
from mediator.consuming.circuit import Circuit
from mediator.messaging.catalog import Received
from mediator.messaging.handling import Build
from mediator.messaging.invocation import Invoke
from mediator.messaging.patterns import listens
from mediator.messaging.registry import SubscriberEntry

__all__ = ["Subscriber", "listeners"]


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What the registry says of a handler, and how to build and call it."""

    id: str
    aliases: tuple[str, ...]
    topics: frozenset[str]
    """Addresses and patterns that it listens to."""
    entry: SubscriberEntry
    build: Build
    invoke: Invoke
    circuit: Circuit
    middleware: Sequence[Build] = ()
    """What stands around it, the outermost first."""

    def wanted_class(self, received: Received) -> type[IntegrationEvent] | None:
        """The class as which this handler takes the event; None when it cannot."""
        for event_class in self.entry.events:
            if event_class is IntegrationEvent:
                return received.entry.event_class
            if received.readable_as(event_class):
                return event_class
        return None

    @property
    def keeps_order(self) -> bool:
        """Whether a failing event holds back the later ones of its key."""
        return self.entry.ordering == "key"

    @property
    def skips_dead(self) -> bool:
        """Whether the later ones go on once it is dead."""
        return self.entry.when_dead == "skip"


def listeners(subscribers: Iterable[Subscriber], received: Received) -> list[Subscriber]:
    """Those who listen to the event's address and take its class."""
    return [
        subscriber
        for subscriber in subscribers
        if subscriber.wanted_class(received) is not None and listens(subscriber.topics, received.envelope.topic)
    ]
