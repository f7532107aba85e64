"""Instances of an event, as they travel: JSON that its class wrote and can read back.

What is drawn follows the schema of what the class writes; the class has the last word. Values near a limit are drawn
more often than others, since that is where a reader differs from a writer.
"""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from mediator.operations.compatibility import schemas_of
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["bodies"]

FORMS: Mapping[str, st.SearchStrategy[Any]] = {
    "uuid": st.uuids().map(str),
    "date": st.sampled_from(["2020-01-01", "2020-06-01", "2021-01-01"]) | st.dates().map(str),
    "date-time": st.sampled_from(["2020-01-01T00:00:00Z", "2026-03-01T12:00:00.5Z"]),
    "duration": st.sampled_from(["-PT1H", "PT0S", "PT1H", "P1D", "P1DT1S", "P2D"]),
    "decimal": st.sampled_from(["0", "0.5", "9.99", "10", "1.234", "-1", "1E+400"])
    | st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    "uri": st.sampled_from(["https://example.org/", "ftp://example.org/a"]),
    "ipv4": st.sampled_from(["127.0.0.1", "10.0.0.1"]),
    "ipvanyaddress": st.sampled_from(["127.0.0.1", "::1"]),
}


def bodies(event_class: type[BaseModel]) -> st.SearchStrategy[bytes]:
    """JSON that the class wrote."""
    written = _values(Node.of(schemas_of(event_class).writes), 3)
    return written.map(lambda data: _body(event_class, data)).filter(bool)


def _body(event_class: type[BaseModel], data: Any) -> bytes:
    try:
        body: bytes = event_class.__pydantic_serializer__.to_json(event_class.model_validate(data, by_name=True))
        event_class.model_validate_json(body)
    except ValidationError:
        return b""
    return body


def _values(node: Node, depth: int) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one for each kind
    if node.values is not None:
        return st.sampled_from(list(node.values))
    if node.alternatives:
        return st.one_of([_values(one, depth) for one in node.alternatives])
    [kind] = node.types
    match kind:
        case "object":
            return _objects(node, depth)
        case "array":
            return _arrays(node, depth)
        case "string":
            return _texts(node)
        case "integer":
            return _near(node) | st.integers(-3, 12).map(lambda number: number * node.data.get("multipleOf", 1))
        case "number":
            return _near(node) | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
    return st.none()


def _near(node: Node) -> st.SearchStrategy[Any]:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    found = [node.data[name] + step for name in names if name in node.data for step in (-1, 0, 1)]
    return st.sampled_from(found) if found else st.nothing()


def _texts(node: Node) -> st.SearchStrategy[str]:
    form = node.data.get("format")
    if form is not None:
        return FORMS[form]
    if "pattern" in node.data:
        matches = TypeAdapter(str)
        return st.from_regex(node.data["pattern"]).map(lambda found: matches.validate_python(found.strip()))
    least, most = node.data.get("minLength", 0), node.data.get("maxLength", 8)
    return st.sampled_from([" " * least, "x" * most]) | st.text(min_size=least, max_size=most)


def _arrays(node: Node, depth: int) -> st.SearchStrategy[list[Any]]:
    firsts = [_values(node.at(inner), depth - 1) for inner in node.data.get("prefixItems", ())]
    if firsts or "items" not in node.data:
        return st.tuples(*firsts).map(list)
    least, most = node.data.get("minItems", 0), node.data.get("maxItems", 4)
    if depth <= 0:
        return st.just([])
    return st.lists(_values(node.at(node.data["items"]), depth - 1), min_size=least, max_size=most)


def _objects(node: Node, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    if node.is_mapping:
        keys, inner = node.at(node.data["propertyNames"]), node.at(node.data["additionalProperties"])
        least, most = node.data.get("minProperties", 0), node.data.get("maxProperties", 3)
        return st.dictionaries(_values(keys, depth), _values(inner, depth - 1), min_size=least, max_size=most)
    always = {name: _values(node.at(field), depth) for name, field in node.properties.items() if name in node.required}
    others = {name: _values(node.at(field), depth) for name, field in node.properties.items() if name not in always}
    return st.fixed_dictionaries(always, optional=others)
