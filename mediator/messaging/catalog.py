"""The catalog: wire name and version ↔ event class, with the upcasters that lead from old versions to new ones.

A class is found by exact match of what the application itself has registered; nothing is ever imported or looked up by
a name that came over the wire.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from contracts import IntegrationEvent, Topic, Upcaster, topic_of
from mediator.errors import UnreadableMessageError
from mediator.messaging.disclosure import cause, refused, told
from mediator.messaging.envelope import Envelope
from mediator.messaging.limits import Limits, read_json
from mediator.messaging.unknown_fields import UnknownFields
from mediator.messaging.upcasting import upcast

__all__ = ["EventCatalog", "EventType", "Received", "content_hash"]

_ALWAYS = {"event_id", "occurred_on", "correlation_id"}


@dataclass(frozen=True, slots=True)
class EventType:
    """An event class and its names on the wire."""

    event_class: type[IntegrationEvent]
    topic: Topic
    address: str


class EventCatalog:
    """Every event class that this application publishes or handles."""

    def __init__(
        self, events: Iterable[type[IntegrationEvent]], upcasters: Iterable[Upcaster], environment: str
    ) -> None:
        self.environment, self.unknown_fields = environment, UnknownFields()
        self._by_class: dict[type[IntegrationEvent], EventType] = {}
        self._by_name: dict[tuple[str, str], EventType] = {}
        for event_class in events:
            topic = topic_of(event_class)
            entry = EventType(event_class, topic, topic.address(environment))
            self._by_class[event_class] = self._by_name[topic.type, topic.version] = entry
        self._next: Mapping[type[IntegrationEvent], Upcaster] = {upcaster.source: upcaster for upcaster in upcasters}

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._by_class.values())

    def type_of(self, event_class: type[IntegrationEvent]) -> EventType | None:
        """The entry of a class, or None when nobody registered it."""
        return self._by_class.get(event_class)

    @property
    def has_local(self) -> bool:
        """Whether some events never leave the application."""
        return any(entry.topic.local for entry in self)

    def is_local(self, envelope: Envelope) -> bool:
        """Whether an event never leaves the application."""
        entry = self._by_name.get((envelope.type, envelope.version))
        return entry is not None and entry.topic.local

    def named(self, envelope: Envelope) -> EventType:
        """The entry of what an envelope says it holds."""
        try:
            return self._by_name[envelope.type, envelope.version]
        except KeyError:
            name = f"{envelope.type}.{envelope.version}" if envelope.version else envelope.type
            raise UnreadableMessageError("unknown type", "ce-type", f"no contract is known for {name!r}") from None

    def path(self, source: type[IntegrationEvent], target: type[IntegrationEvent]) -> list[Upcaster] | None:
        """The upcasters that lead from one class to another: none if they are the same, None if there is no way."""
        path: list[Upcaster] = []
        while source is not target:
            upcaster = self._next.get(source)
            if upcaster is None or upcaster in path:
                return None
            path.append(upcaster)
            source = upcaster.target
        return path


def content_hash(envelope: Envelope, data: Mapping[str, Any]) -> bytes:
    """16 bytes that differ when type, version or content differ; neither layout nor lineage is content.

    An event object that is published twice gets the correlation id of each occasion, and stays the same event.
    """
    content = json.dumps({**data, "correlation_id": None}, sort_keys=True)
    name = f"{envelope.type}\0{envelope.version}\0"
    return blake2b(name.encode() + content.encode(), digest_size=16).digest()


class Received:
    """An envelope that was read: strictly once as JSON, and once for each class that handlers want it as."""

    def __init__(self, envelope: Envelope, catalog: EventCatalog, limits: Limits) -> None:
        limits.check_headers(envelope.headers)
        self.envelope = envelope
        self.entry = catalog.named(envelope)
        self._catalog = catalog
        self._data = read_json(envelope.body, limits)
        self.payload_hash = content_hash(envelope, self._data)
        self._events: dict[type[IntegrationEvent], IntegrationEvent] = {}
        self.as_class(self.entry.event_class)

    def unknown_fields(self) -> int:
        """How many fields its publisher sent, nested ones too, that the contract here does not know."""
        return self._catalog.unknown_fields.count(self.as_class(self.entry.event_class), self._data)

    def readable_as(self, wanted: type[IntegrationEvent]) -> bool:
        """Whether the event is of class `wanted`, or upcasters lead there."""
        return self._catalog.path(self.entry.event_class, wanted) is not None

    def as_class(self, wanted: type[IntegrationEvent]) -> IntegrationEvent:
        """The event as `wanted`; raises UnreadableMessageError with the paths of the values that do not fit."""
        if wanted not in self._events:
            try:
                event = wanted.model_validate_json(self._body_for(wanted))
            except UnreadableMessageError:
                raise
            except ValidationError as error:
                known = (wanted,) if wanted is self.entry.event_class else (wanted, self.entry.event_class)
                raise UnreadableMessageError("schema", *refused(error, *known)) from cause(error, *known)
            except Exception as error:  # noqa: BLE001 - raised as another
                # A contract's validator that does not expect such values, or an upcaster that gives what is no JSON.
                known = wanted, self.entry.event_class
                raise UnreadableMessageError("schema", wanted.__qualname__, told(error, *known)) from cause(
                    error, *known
                )
            if event.event_id != self.envelope.event_id:
                raise UnreadableMessageError("identity", "event_id", "differs from the id in the headers")
            self._events[wanted] = event
        return self._events[wanted]

    def _body_for(self, wanted: type[IntegrationEvent]) -> bytes:
        path = self._catalog.path(self.entry.event_class, wanted) or ()
        data = upcast(self.envelope.body, path) if path else self._data
        lacking = {} if data.keys() >= _ALWAYS else self._lacking(data, wanted)
        if not path and not lacking:
            return self.envelope.body
        return json.dumps({**data, **lacking}, allow_nan=False).encode()

    def _lacking(self, data: Mapping[str, Any], wanted: type[IntegrationEvent]) -> Mapping[str, str | None]:
        """What every event of ours carries in its body, and somebody else's has in its headers only."""
        known = {
            "event_id": str(self.envelope.event_id),
            "occurred_on": self.envelope.occurred_on.isoformat(),
            "correlation_id": self.envelope.correlation_id,
        }
        return {name: value for name, value in known.items() if not _names(wanted, name) & data.keys()}


def _names(event_class: type[IntegrationEvent], field: str) -> set[Any]:
    """What a field may be called in JSON."""
    info = event_class.model_fields[field]
    return {field, info.alias, info.validation_alias}
