"""A place in a schema: references followed, alternatives listed, and a few words for people.

    root = Node.of(schemas.reads)
    root.properties["lines"].words()     # "list of objects"

Two nodes are the same place when they have the same `key`, however one came there. That is what ends the comparison of
models that contain themselves.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Node", "values_text"]

_ANYTHING: Mapping[str, Any] = {}
_MOST_VALUES = 6
_MOST_CHARACTERS = 40
_LIMITS = (
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("multipleOf", "a multiple of {}"),
    ("minItems", "at least {} elements"),
    ("maxItems", "at most {} elements"),
    ("minProperties", "at least {} entries"),
    ("maxProperties", "at most {} entries"),
    ("pattern", "pattern {}"),
)
_PLURALS = {"object": "objects", "string": "texts", "integer": "integers", "number": "numbers", "boolean": "booleans"}


@dataclass(frozen=True)
class Node:
    """A schema within its document; never a mere reference."""

    data: Mapping[str, Any]
    document: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Node":
        return cls(document, document).resolved()

    def resolved(self) -> "Node":
        data, seen = self.data, set()
        while (reference := data.get("$ref")) is not None and reference not in seen:
            seen.add(reference)
            data = self.document.get("$defs", {}).get(reference.removeprefix("#/$defs/"), _ANYTHING)
        return Node(data, self.document)

    def at(self, data: Mapping[str, Any] | bool) -> "Node":  # noqa: FBT001 - JSON Schema's own `true`
        """Another place of the same document."""
        return Node(data if isinstance(data, Mapping) else _ANYTHING, self.document).resolved()

    @property
    def key(self) -> int:
        return id(self.data)

    @cached_property
    def types(self) -> frozenset[str]:
        found = self.data.get("type", ())
        return frozenset([found] if isinstance(found, str) else found)

    @cached_property
    def all_types(self) -> frozenset[str]:
        """Its types, those of a union's members among them."""
        return self.types.union(*(node.all_types for node in self.alternatives))

    @cached_property
    def checks(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.data.get("x-checks", {})
        return found

    @cached_property
    def alternatives(self) -> tuple["Node", ...]:
        """The members of a union, those of nested unions among them; none if it is no union."""
        found = self.data.get("anyOf") or self.data.get("oneOf") or ()
        nodes = [self.at(inner) for inner in found]
        flat: list[Node] = []
        for node in nodes:
            flat.extend(node.alternatives if "anyOf" in node.data else (node,))
        return tuple(flat)

    @cached_property
    def values(self) -> Sequence[Any] | None:
        """The only values that it may have, if it is an enum or a literal."""
        if "const" in self.data:
            return [self.data["const"]]
        found: Sequence[Any] | None = self.data.get("enum")
        return found

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.data.get("properties", {})
        return found

    @property
    def required(self) -> frozenset[str]:
        return frozenset(self.data.get("required", ()))

    @property
    def is_anything(self) -> bool:
        return not (self.types or self.values is not None or self.data.get("anyOf") or self.data.get("oneOf"))

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.data.get("additionalProperties"), Mapping)

    def words(self) -> str:
        """What it is, for people."""
        if self.values is not None:
            return values_text(self.values)
        if self.alternatives:
            return " or ".join(dict.fromkeys(node.words() for node in self.alternatives))
        if self.is_anything:
            return "anything"
        limits = [text.format(self.data[name]) for name, text in _LIMITS if name in self.data]
        limits += [f"{name}={value}" for name, value in sorted(self.checks.items())]
        return ", ".join([self.kind, *limits])

    @property
    def kind(self) -> str:
        """What it is, without its limits."""
        if self.values is not None:
            return "enum"
        if self.alternatives:
            return " or ".join(dict.fromkeys(node.kind for node in self.alternatives))
        form = self.data.get("format")
        if form == "decimal":
            return "decimal"
        if "array" in self.types:
            inner = self.data.get("items")
            of = self.at(inner).kind if isinstance(inner, Mapping) else ""
            kind = "tuple" if "prefixItems" in self.data else "set" if self.data.get("uniqueItems") else "list"
            return f"{kind} of {_PLURALS.get(of, of)}" if of else kind
        if self.is_mapping:
            return f"mapping to {self.at(self.data['additionalProperties']).words()}"
        name = " or ".join(sorted(self.types)) or "anything"
        return f"{name} ({form})" if form else name


def values_text(values: Sequence[Any]) -> str:
    """Some values, as JSON."""
    shown = [json.dumps(value, ensure_ascii=False)[:_MOST_CHARACTERS] for value in values[:_MOST_VALUES]]
    more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return ("one of " if len(values) > 1 else "only ") + ", ".join(shown) + more
