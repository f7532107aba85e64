"""The fields of an event as a table: every place that a value may stand at, by its path.

    order_id          UUID
    lines             list of OrderLine
    lines[].sku       text                    at most 40 characters

`lines[]` is an element of a list, `prices{}` a value of a map, `point[0]` the first of a tuple, `payment(Card)` one
alternative of several: the paths of the contracts' own errors. A model within itself is entered once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contracts import IntegrationEvent
from mediator.operations.documents.shapes import Shape, in_json, in_order, shape_of

__all__ = ["FieldDocument", "fields_of"]

_OF_EVERY_EVENT: Mapping[str, str] = {
    "event_id": "Identity of the event, the same at every arrival.",
    "occurred_on": "When it happened, in UTC.",
    "correlation_id": "What belongs together: the same for all that one request set off.",
}
_LIMITS: Mapping[str, str] = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches {}",
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "maxDigits": "at most {} digits",
    "decimalPlaces": "at most {} digits after the point",
    "multipleOf": "a multiple of {}",
    "minItems": "at least {} elements",
    "maxItems": "at most {} elements",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
}
_EXACTLY = (
    ("minLength", "maxLength", "exactly {} characters"),
    ("minItems", "maxItems", "exactly {} elements"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDocument:
    """One place in an event's JSON, for people."""

    path: str
    type: str
    required: bool
    """Whether it is there in every event; what has a default may be missing in those of an older publisher."""
    default: str
    """As JSON; empty when there is none, or when it is made anew for each event."""
    description: str
    constraints: tuple[str, ...]
    key: int | None
    """Which part of the partition key it is, counted from 1."""
    sensitive: bool
    standard: bool
    """Whether every event has it."""
    computed: bool
    """Whether it follows from other fields; a publisher does not give it."""

    @property
    def presence(self) -> str:
        """Whether a publisher has to give it, in a word."""
        if self.standard or self.computed:
            return "automatic"
        return "required" if self.required else "optional"


def fields_of(event_class: type[IntegrationEvent]) -> tuple[FieldDocument, ...]:
    """The author's fields in their order, then those that every event has."""
    found = list(_Walk(event_class).object(shape_of(event_class), ""))
    return tuple(sorted(found, key=lambda field: field.standard))


class _Walk:
    """Enters everything that an event is made of."""

    def __init__(self, event_class: type[IntegrationEvent]) -> None:
        names = {name: _on_the_wire(event_class, name) for name in event_class.model_fields}
        self._keys = {names[name]: at for at, name in enumerate(event_class.__partition_key_fields__, 1)}
        self._standard = {names[name]: words for name, words in _OF_EVERY_EVENT.items()}

    def object(self, shape: Shape, path: str) -> Iterator[FieldDocument]:
        for name, member in shape.members:
            here = f"{path}.{name}" if path else name
            yield self._field(here, member, required=name in shape.required)
            yield from self._below(member, here)

    def _below(self, shape: Shape, path: str) -> Iterator[FieldDocument]:
        match shape.kind:
            case _ if shape.recurs:
                return
            case "object":
                yield from self.object(shape, path)
            case "list" | "map":
                suffix = "[]" if shape.kind == "list" else "{}"
                yield from self._below(shape.parts[0], path + suffix)
            case "tuple":
                for at, part in enumerate(shape.parts):
                    yield from self._below(part, f"{path}[{at}]")
            case "choice":
                for part in shape.parts:
                    name = str(part.node.get("title", part.name))
                    yield from self._below(part, f"{path}({name})" if part.kind == "object" else path)

    def _field(self, path: str, shape: Shape, *, required: bool) -> FieldDocument:
        node = shape.node
        return FieldDocument(
            path=path,
            type=shape.words,
            required=required,
            default=in_json(in_order(shape, node["default"])) if "default" in node else "",
            description=str(node.get("description") or self._standard.get(path, "")),
            constraints=tuple(_constraints(shape)),
            key=self._keys.get(path),
            sensitive=shape.sensitive or any(part.sensitive for part in shape.parts),
            standard=path in self._standard,
            computed=bool(node.get("readOnly")),
        )


def _constraints(shape: Shape) -> Iterator[str]:
    if shape.kind != "tuple":
        yield from _limits(shape.node)
    for part in shape.parts:
        if shape.kind == "list":
            yield from (f"each {limit}" for limit in _limits(part.node))
        elif shape.kind == "map":
            yield from (f"each value {limit}" for limit in _limits(part.node))


def _limits(node: Mapping[str, Any]) -> Iterator[str]:
    if "x-known-values" in node:
        # An open enum: there may be others.
        yield f"known values: {', '.join(map(in_json, node['x-known-values']))}"
    fixed: set[str] = set()
    for least, most, words in _EXACTLY:
        if least in node and node[least] == node.get(most):
            fixed |= {least, most}
            yield words.format(node[least])
    for name, words in _LIMITS.items():
        if name in node and name not in fixed:
            yield words.format(node[name])


def _on_the_wire(event_class: type[IntegrationEvent], name: str) -> str:
    field = event_class.model_fields[name]
    return field.serialization_alias or field.alias or name
