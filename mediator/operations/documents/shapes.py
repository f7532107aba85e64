"""Shapes: what a contract's JSON looks like, with references followed and `null` set apart.

    root = shape_of(OrderPlacedV1)
    [(name, shape.words) for name, shape in root.members]      [("order_id", "UUID"), ("lines", "list of OrderLine"), …]

Fields, examples and sizes are all read off the same JSON schema, the one of what is written, so that a table cannot
say something else than the schema file beside it. A decimal number is told from a text by a mark of our own, which is
in no published schema.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

__all__ = ["Kind", "Shape", "in_json", "in_order", "shape_of"]

Kind: TypeAlias = Literal[
    "object", "list", "tuple", "map", "choice", "values", "uuid", "moment", "date", "time", "duration", "decimal",
    "text", "integer", "number", "boolean", "null", "unknown",
]  # fmt: skip

_DECIMAL = "x-decimal"
_DECIMAL_LIMITS: Mapping[str, str] = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "max_digits": "maxDigits",
    "decimal_places": "decimalPlaces",
}
_MORE = {"additionalProperties", "patternProperties"}
_FORMATS: Mapping[str, Kind] = {
    "date-time": "moment",
    "date": "date",
    "time": "time",
    "duration": "duration",
    _DECIMAL: "decimal",
}
_PLAIN: Mapping[str, Kind] = {"integer": "integer", "number": "number", "boolean": "boolean", "null": "null"}
_WORDS: Mapping[Kind, str] = {
    "uuid": "UUID",
    "moment": "moment, as ISO 8601 with its zone",
    "date": "date, as ISO 8601",
    "time": "time of day, as ISO 8601",
    "duration": "duration, as ISO 8601",
    "decimal": "decimal number, as text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "map": "map",
    "object": "object",
    "unknown": "anything",
}


class _Marking(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        limits = {ours: schema[theirs] for theirs, ours in _DECIMAL_LIMITS.items() if theirs in schema}  # type: ignore[literal-required]
        return {"type": "string", "format": _DECIMAL, **limits}


class Shape:
    """One place in an event's JSON."""

    def __init__(
        self,
        node: Mapping[str, Any],
        definitions: Mapping[str, Any],
        *,
        name: str = "",
        above: frozenset[str] = frozenset(),
    ) -> None:
        self._definitions, self._above = definitions, above
        self._names = {name} - {""}
        self.name = name
        """Of the model, or of the named type, that it is."""
        self.nullable = False
        self.node: Mapping[str, Any] = self._resolved(node)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Without references, and without `null` as an alternative; what stands beside a reference is kept."""
        if "$ref" in node:
            self.name = str(node["$ref"]).rpartition("/")[2]
            self._names.add(self.name)
            beside = {name: value for name, value in node.items() if name != "$ref"}
            return {**self._resolved(self._definitions[self.name]), **beside}
        alternatives = node.get("anyOf") or node.get("oneOf") or ()
        left = [one for one in alternatives if one.get("type") != "null"]
        if len(left) < len(alternatives):
            self.nullable = True
        beside = {name: value for name, value in node.items() if name not in ("anyOf", "oneOf", "discriminator")}
        if len(left) == 1:
            return {**self._resolved(left[0]), **beside}
        return {**beside, "anyOf": left} if left else node

    @property
    def recurs(self) -> bool:
        """Whether it stands within itself: to go on into it would have no end."""
        return not self._above.isdisjoint(self._names)

    @property
    def kind(self) -> Kind:  # noqa: PLR0911 - one line for each
        node = self.node
        if "anyOf" in node:
            return "choice"
        if "const" in node or "enum" in node:
            return "values"
        match node.get("type"):
            case "string":
                stated = str(node.get("format", ""))
                return "uuid" if stated.startswith("uuid") else _FORMATS.get(stated, "text")
            case "array":
                return "tuple" if "prefixItems" in node else "list"
            case "object":
                return "map" if "properties" not in node and _MORE & node.keys() else "object"
            case str(plain) if plain in _PLAIN:
                return _PLAIN[plain]
        return "unknown"

    @property
    def members(self) -> Iterator[tuple[str, "Shape"]]:
        """The properties of an object, by their names on the wire."""
        for name, node in self.node.get("properties", {}).items():
            yield name, self._inner(node)

    @property
    def required(self) -> frozenset[str]:
        """The properties of an object that have no default."""
        return frozenset(self.node.get("required", ()))

    @property
    def parts(self) -> tuple["Shape", ...]:
        """The elements of a tuple, the alternatives of a choice, what a list or a map is made of."""
        node = self.node
        match self.kind:
            case "choice":
                nodes = node["anyOf"]
            case "tuple":
                nodes = node["prefixItems"]
            case "list":
                nodes = [node.get("items", {})]
            case "map":
                nodes = list(node.get("patternProperties", {}).values()) or [node["additionalProperties"]]
            case _:
                nodes = []
        return tuple(self._inner(one) for one in nodes)

    @property
    def keys(self) -> "Shape":
        """What the keys of a map are."""
        return self._inner(self.node.get("propertyNames", {"type": "string"}))

    @property
    def values(self) -> tuple[Any, ...]:
        """What a shape of fixed values may be."""
        return (self.node["const"],) if "const" in self.node else tuple(self.node.get("enum", ()))

    @property
    def sensitive(self) -> bool:
        return bool(self.node.get("x-sensitive"))

    @property
    def words(self) -> str:
        """The type, for people."""
        return f"{self._words()} or null" if self.nullable else self._words()

    def _words(self) -> str:  # noqa: PLR0911 - one line for each kind
        match self.kind:
            case _ if self.recurs and self.kind != "object":
                return self.name
            case "object" if self.name:
                return str(self.node.get("title", self.name))
            case "text":
                return f"text ({self.node['format']})" if "format" in self.node else "text"
            case "values":
                return ("" if len(self.values) == 1 else "one of ") + ", ".join(map(in_json, self.values))
            case "list":
                return f"{'set' if self.node.get('uniqueItems') else 'list'} of {self.parts[0].words}"
            case "tuple":
                return f"tuple of {', '.join(part.words for part in self.parts)}"
            case "map":
                return f"map of {self.keys.words} to {self.parts[0].words}"
            case "choice":
                return " or ".join(part.words for part in self.parts)
            case kind:
                return _WORDS[kind]

    def _inner(self, node: Any) -> "Shape":
        return Shape(node if isinstance(node, Mapping) else {}, self._definitions, above=self._above | self._names)


def shape_of(event_class: type[BaseModel], mode: Literal["serialization", "validation"] = "serialization") -> Shape:
    """The shape of what is written, or of what is read."""
    schema = event_class.model_json_schema(mode=mode, schema_generator=_Marking, by_alias=True)
    return Shape(schema, schema.get("$defs", {}), name=event_class.__name__)


def in_json(value: Any) -> str:
    """A value as it stands on the wire."""
    return json.dumps(value, ensure_ascii=False)


def in_order(shape: Shape, value: Any) -> Any:
    """The same value with its sets sorted: Python gives them in another order in every run."""
    match shape.kind:
        case _ if shape.recurs:
            return value
        case "object" if isinstance(value, Mapping):
            members = dict(shape.members)
            return {name: in_order(members[name], one) if name in members else one for name, one in value.items()}
        case "map" if isinstance(value, Mapping):
            return {name: in_order(shape.parts[0], one) for name, one in value.items()}
        case "list" if isinstance(value, list):
            found = [in_order(shape.parts[0], one) for one in value]
            return sorted(found, key=in_json) if shape.node.get("uniqueItems") else found
        case "tuple" if isinstance(value, list):
            return [in_order(part, one) for part, one in zip(shape.parts, value, strict=False)]
    return value
