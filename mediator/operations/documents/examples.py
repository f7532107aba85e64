"""Examples: what an event looks like on the wire, the same in every run.

An author's own example goes before everything else: `examples` in the contract's `model_config` (the whole event), or
of `Field(examples=[...])` (one value). What is missing is made up, from the type and the name of the field. Either way
the event is read and written once, so that the example is what a publisher would send.

    class OrderPlacedV1(IntegrationEvent):
        model_config = ConfigDict(json_schema_extra={"examples": [{"sku": "KB-01", "total": "49.90"}]})

An author's example that the contract refuses is an error. A made-up one that it refuses, because of a pattern or a
validator, is left out, and the document says so.
"""

import json
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import sha256
from operator import ge, gt, le, lt
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from contracts import IntegrationEvent
from mediator.errors import ExampleRefusedError
from mediator.operations.documents.shapes import Kind, Shape, in_json, in_order, shape_of

__all__ = ["example_of"]

_LIMITS: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    "minimum": ge,
    "exclusiveMinimum": gt,
    "maximum": le,
    "exclusiveMaximum": lt,
}
_MOMENT = "2026-01-31T09:30:00.125000Z"
_MADE_UP: Mapping[Kind, Any] = {
    "moment": _MOMENT,
    "date": "2026-01-31",
    "time": "09:30:00",
    "duration": "PT1H30M",
    "boolean": True,
    "null": None,
    "unknown": None,
}
_TEXTS: Mapping[str, str] = {
    "email": "ada@example.org",
    "idn-email": "ada@example.org",
    "name-email": "Ada <ada@example.org>",
    "uri": "https://example.org/",
    "multi-host-uri": "postgresql://example.org/shop",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "ipvanyaddress": "192.0.2.1",
    "ipv4network": "192.0.2.0/24",
    "ipv6network": "2001:db8::/32",
    "ipv4interface": "192.0.2.1/24",
    "ipv6interface": "2001:db8::1/32",
}


def example_of(event_class: type[IntegrationEvent]) -> Mapping[str, Any] | None:
    """The event as JSON data; None when none could be made up. Raises ExampleRefusedError."""
    shape = shape_of(event_class, "validation")
    stated = next((one for one in shape.node.get("examples", ()) if isinstance(one, Mapping)), {})
    values = {**_object(shape, ""), **stated}
    try:
        event = event_class.model_validate_json(in_json(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if not _is_the_authors(shape, stated, first["loc"]):
            return None
        name, place = f"{event_class.__module__}.{event_class.__qualname__}", ".".join(map(str, first["loc"]))
        raise ExampleRefusedError(name, place, first["msg"]) from error
    found: dict[str, Any] = in_order(shape_of(event_class), json.loads(event.model_dump_json()))
    return found


def _is_the_authors(shape: Shape, stated: Mapping[str, Any], place: tuple[int | str, ...]) -> bool:
    """Whether the value at a place comes from an example that somebody wrote down."""
    if not place or place[0] in stated:
        return bool(stated)
    for part in place:
        shape = dict(shape.members).get(str(part), shape) if shape.kind == "object" else next(iter(shape.parts), shape)
        if shape.node.get("examples"):
            return True
    return False


def _value(shape: Shape, path: str) -> Any:
    node = shape.node
    if shape.recurs:
        return [] if shape.kind == "list" else {} if shape.kind == "map" else None
    if node.get("examples"):
        return node["examples"][0]
    if path == "correlation_id":
        return str(_uuid(path, "uuid4"))
    if "default" in node and node["default"] is not None:
        return node["default"]
    return _made_up(shape, path)


def _made_up(shape: Shape, path: str) -> Any:  # noqa: PLR0911 - one line for each kind
    node = shape.node
    match shape.kind:
        case "object":
            return _object(shape, path)
        case "list" | "tuple" | "map" | "choice":
            return _of_parts(shape, path)
        case "values":
            return shape.values[0]
        case "uuid":
            return str(_uuid(path, str(node.get("format"))))
        case "text":
            return _text(node, path)
        case "integer":
            return int(_number(node, Decimal(1)))
        case "number":
            return float(_number(node, Decimal("1.5")))
        case "decimal":
            return format(_number(node, Decimal("19.90")), "f")
        case kind:
            return _MADE_UP[kind]


def _of_parts(shape: Shape, path: str) -> Any:
    node, parts = shape.node, shape.parts
    match shape.kind:
        case "list":
            count = max(1, node.get("minItems", 1)) if node.get("maxItems", 1) else 0
            return [_value(parts[0], f"{path}[{at}]") for at in range(count)]
        case "tuple":
            return [_value(part, f"{path}[{at}]") for at, part in enumerate(parts)]
        case "map":
            return {shape.keys.values[0] if shape.keys.values else "key": _value(parts[0], f"{path}{{}}")}
    return _value(next((part for part in parts if not part.recurs), parts[0]), path)


def _object(shape: Shape, path: str) -> dict[str, Any]:
    return {
        name: _value(member, f"{path}.{name}" if path else name)
        for name, member in shape.members
        if name in shape.required or not member.recurs
    }


def _uuid(path: str, stated: str) -> UUID:
    version = 7 if path == "event_id" else int(stated.removeprefix("uuid") or 4)
    made = UUID(bytes=sha256(path.encode()).digest()[:16], version=min(version, 5))
    if version <= 5:  # noqa: PLR2004 - the versions that the standard library of 3.11 can set
        return made
    # Its first 48 bits are a moment: that of `occurred_on`.
    text = made.hex
    return UUID(f"019c13634a3d{version}{text[13:]}") if version == 7 else UUID(f"{text[:12]}{version}{text[13:]}")  # noqa: PLR2004


def _text(node: Mapping[str, Any], path: str) -> str:
    if "pattern" not in node and node.get("format") in _TEXTS:
        return _TEXTS[node["format"]]
    shortest, longest = node.get("minLength", 0), node.get("maxLength")
    words = path.rpartition(".")[2].strip("[]{}0123456789").replace("_", " ") or "text"
    text = words.ljust(shortest, "x")
    return text if longest is None else text[:longest]


def _number(node: Mapping[str, Any], usual: Decimal) -> Decimal:
    """The usual one if it fits, else the first that does of those near the limits."""
    limits = {name: Decimal(str(node[name])) for name in _LIMITS if name in node}
    step = Decimal(str(node["multipleOf"])) if "multipleOf" in node else None
    width = step or Decimal(1)
    near = [
        usual,
        *limits.values(),
        *(limit + width for limit in limits.values()),
        *(limit - width for limit in limits.values()),
    ]
    if len(limits) > 1:
        near.append(sum(limits.values(), Decimal(0)) / len(limits))
    if step is not None:
        near = [
            (one / step).to_integral_value(rounding) * step for one in near for rounding in (ROUND_CEILING, ROUND_FLOOR)
        ]
    places = node.get("decimalPlaces")
    near = near if places is None else [round(one, places) for one in near]
    return next((one for one in near if all(_LIMITS[name](one, limit) for name, limit in limits.items())), usual)
