"""Whether a stored schema is one that can be compared; a damaged file is reported, instead of failing half-way."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["check_intact"]

_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = (*_SIZES, "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TEXTS = ("$ref", "format", "pattern")
_LISTS_OF_TEXTS = ("required", "x-names", "x-paths")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "$defs")


def check_intact(document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema, or raise ValueError for the first place that no schema of ours has."""
    names = {f"#/$defs/{name}" for name in document.get("$defs", {})}
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        path, schema = waiting.pop()
        if not isinstance(schema, Mapping):
            raise ValueError(f"{path or 'the schema'} is no object")  # noqa: TRY004 - pydantic takes no TypeError
        problem = next(_problems(schema, names), None)
        if problem:
            raise ValueError(f"{path or 'the schema'}: {problem}")
        waiting.extend(_parts(path, schema))
    return document


def _problems(schema: Mapping[str, Any], names: set[str]) -> Iterator[str]:
    kinds: list[tuple[tuple[str, ...], Any]] = [
        (_TEXTS, str),
        (("enum", "x-tags", *_LISTS_OF_TEXTS, *_LISTS_OF_SCHEMAS), list),
        (("x-checks", *_NAMED_SCHEMAS), Mapping),
        (("type", "x-discriminator"), str | list),
    ]
    for keywords, kind in kinds:
        yield from (
            f"{name} is of a wrong kind" for name in keywords if name in schema and not isinstance(schema[name], kind)
        )
    for name in (*_LISTS_OF_TEXTS, "type"):
        if isinstance(schema.get(name), list) and not all(isinstance(one, str) for one in schema[name]):
            yield f"{name} holds something that is no text"
    for name in _NUMBERS:
        if name in schema and (isinstance(schema[name], bool) or not isinstance(schema[name], int | float)):
            yield f"{name} is no number"
    if "$ref" in schema and schema["$ref"] not in names:
        yield f"{schema['$ref']} is not defined"
    if "x-discriminator" in schema and len(schema.get("x-tags", ())) != len(schema.get("oneOf", ())):
        yield "each member of oneOf needs its tag"
    if "x-names" in schema and not schema["x-names"]:
        yield "x-names is empty"


def _parts(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _LISTS_OF_SCHEMAS:
        yield from ((f"{path}/{name}/{place}", inner) for place, inner in enumerate(schema.get(name, ())))
    for name in _NAMED_SCHEMAS:
        yield from ((f"{path}/{name}/{key}", inner) for key, inner in schema.get(name, {}).items())
    for name in ("items", "additionalProperties", "propertyNames"):
        if name in schema and not isinstance(schema[name], bool):
            yield f"{path}/{name}", schema[name]
