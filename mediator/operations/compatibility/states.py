"""What a contract promises at one time, as far as others depend on it.

state = state_of(OrderPlacedV1)
state.type, state.version     # "ordering.order-placed", "v1"
state.topic                   # "{environment}.ordering.public.orders.v1"
state.schemas.writes          # what stands in outboxes and dead letters
"""

from collections.abc import Iterable
from dataclasses import dataclass

from contracts import IntegrationEvent, has_topic, sensitive_fields, topic_of
from mediator.errors import BaselineError
from mediator.messaging.registry import Registry
from mediator.operations.compatibility.schemas.exact import Schemas, schemas_of
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["EventState", "Identity", "KeyField", "classes_by_identity", "state_of"]

Identity = tuple[str, str]
"""Wire type and version."""

_SHORTEST = "e"  # an environment that lengthens no address beyond what brokers take


@dataclass(frozen=True, slots=True)
class KeyField:
    """A field of the partition key; another kind of value would give the same aggregate another key."""

    field: str
    kind: str


@dataclass(frozen=True, slots=True)
class EventState:
    """An event class, without the class."""

    type: str
    version: str
    topic: str
    """Its address, with `{environment}` in front."""
    internal: bool
    partition_keys: tuple[KeyField, ...]
    sensitive: tuple[str, ...]
    schemas: Schemas


def state_of(event_class: type[IntegrationEvent]) -> EventState:
    """What this class promises."""
    topic, schemas = topic_of(event_class), schemas_of(event_class)
    written = Node.of(schemas.writes)
    keys = [_written_name(event_class, name, written) for name in _key_names(event_class)]
    return EventState(
        type=topic.type,
        version=topic.version,
        topic="{environment}" + topic.address(_SHORTEST).removeprefix(_SHORTEST),
        internal=topic.internal,
        partition_keys=tuple(KeyField(key, written.at(written.properties[key]).kind) for key in keys),
        sensitive=tuple(sorted(sensitive_fields(event_class))),
        schemas=schemas,
    )


def classes_by_identity(
    events: Iterable[type[IntegrationEvent]] | Registry,
) -> dict[Identity, type[IntegrationEvent]]:
    """The classes by type and version, in that order; those without a topic are bases, and no events."""
    classes = [entry.event_class for entry in events.catalog] if isinstance(events, Registry) else events
    found: dict[Identity, type[IntegrationEvent]] = {}
    for event_class in classes:
        if not has_topic(event_class):
            continue
        topic = topic_of(event_class)
        other = found.setdefault((topic.type, topic.version), event_class)
        if other is not event_class:
            raise BaselineError(
                f"{topic.type} {topic.version}".rstrip(),
                f"{_name(other)} and {_name(event_class)} are both this event in this version",
                "give one of them another version=, or another name=",
            )
    return dict(sorted(found.items()))


def _name(event_class: type) -> str:
    return f"{event_class.__module__}.{event_class.__qualname__}"


def _key_names(event_class: type[IntegrationEvent]) -> tuple[str, ...]:
    event_class.model_rebuild()  # a class that waited for a forward reference does not know them yet
    return event_class.__partition_key_fields__


def _written_name(event_class: type[IntegrationEvent], name: str, written: Node) -> str:
    alias = event_class.model_fields[name].serialization_alias
    return alias if alias is not None and alias in written.properties else name
