"""JSON Schema files, draft 2020-12: one for each version of an event, of what is written.

    schemas/ordering.order-placed.v1.json       "$id": "urn:ordering:order-placed:v1"

A field with a default is not required: an older publisher may not have it yet. Nested models stand in `$defs`.
The name in `$id` is the wire name, which a renamed class keeps.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from mediator.operations.documents.events import EventDocument, EventDocuments
from mediator.operations.documents.shapes import Shape, in_order

__all__ = ["as_text", "json_schema", "json_schemas", "rebuilt", "schema_id", "with_sorted_sets"]

_BY_NAME = {"properties", "patternProperties", "$defs"}
_SEVERAL = {"anyOf", "oneOf", "allOf", "prefixItems"}
_SINGLE = {"items", "additionalProperties", "propertyNames", "not"}


def json_schemas(documents: EventDocuments) -> dict[str, str]:
    """A file for each event."""
    return {f"schemas/{event.slug}.json": as_text(json_schema(event)) for event in documents.events}


def json_schema(event: EventDocument) -> dict[str, Any]:
    """The schema of what is written, as a document of its own."""
    mode: JsonSchemaMode = "serialization"
    found = event.event_class.model_json_schema(mode=mode, by_alias=True)
    schema = {"$schema": GenerateJsonSchema.schema_dialect, "$id": schema_id(event), **with_sorted_sets(found)}
    if event.deprecation is not None:
        schema["deprecated"] = True
    return schema


def schema_id(event: EventDocument) -> str:
    """Names the schema, wherever the file lies."""
    return ":".join(part for part in ("urn", event.domain, event.type.partition(".")[2], event.version) if part)


def with_sorted_sets(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema; defaults and examples that are sets stand in an order of their own in every run."""
    definitions = schema.get("$defs", {})

    def ordered(node: dict[str, Any]) -> dict[str, Any]:
        shape = Shape(node, definitions)
        if "default" in node:
            node["default"] = in_order(shape, node["default"])
        if isinstance(node.get("examples"), list):
            node["examples"] = [in_order(shape, one) for one in node["examples"]]
        return node

    return rebuilt(schema, ordered)


def rebuilt(schema: Mapping[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A schema with every schema in it changed, the innermost first; a field may be called `default` or `items`."""
    found: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _BY_NAME and isinstance(value, Mapping):
            found[name] = {one: rebuilt(inner, change) for one, inner in value.items()}
        elif name in _SEVERAL and isinstance(value, list):
            found[name] = [rebuilt(inner, change) for inner in value]
        elif name in _SINGLE and isinstance(value, Mapping):
            found[name] = rebuilt(value, change)
        else:
            found[name] = value
    return change(found)


def as_text(document: Mapping[str, Any]) -> str:
    """JSON for people and for version control."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
