"""Schemas without what is not about values, and their shape: what is left when the words are taken away, too.

tidy(schema)     no titles, no examples: they change with names that nobody on the other side sees
shape(schema)    a text that is equal for schemas that differ in descriptions, defaults or names of nested classes
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["shape", "tidy"]

_NOISE = frozenset({"title", "examples", "$comment", "readOnly"})
_WORDS = frozenset({"description", "default", "deprecated", "x-known-values", "x-sensitive"}) | _NOISE
_ONE = ("items", "additionalProperties", "propertyNames")
_SEVERAL = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs")


def tidy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without titles and examples; a field that is called title stays."""
    return _without(schema, _NOISE)


def shape(schema: Mapping[str, Any]) -> str:
    """Equal for two schemas that take the same values, if they were made alike."""
    bare = _without(schema, _WORDS)
    definitions = bare.pop("$defs", {})
    return json.dumps(_inlined(bare, definitions, {}), sort_keys=True)


def _without(schema: Mapping[str, Any], words: frozenset[str]) -> dict[str, Any]:
    found = {}
    for name, value in schema.items():
        if name in words:
            continue
        if name in _ONE and isinstance(value, Mapping):
            value = _without(value, words)
        elif name in _SEVERAL:
            value = [_without(inner, words) for inner in value]
        elif name in _NAMED:
            value = {key: _without(inner, words) for key, inner in value.items()}
        elif name == "required":
            value = sorted(value)
        found[name] = value
    return found


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any], above: Mapping[str, int]) -> dict[str, Any]:
    """Definitions stand where they are used; within itself, one is known by its depth."""
    reference = schema.get("$ref")
    if reference is None:
        return dict(_inlined_parts(schema, definitions, above))
    if reference in above:
        return {"$ref": above[reference]}
    target = definitions.get(reference.removeprefix("#/$defs/"), {})
    return _inlined(target, definitions, {**above, reference: len(above)})


def _inlined_parts(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], above: Mapping[str, int]
) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name in _ONE and isinstance(value, Mapping):
            value = _inlined(value, definitions, above)
        elif name in _SEVERAL:
            value = [_inlined(inner, definitions, above) for inner in value]
        elif name in _NAMED:
            value = {key: _inlined(inner, definitions, above) for key, inner in value.items()}
        yield name, value
