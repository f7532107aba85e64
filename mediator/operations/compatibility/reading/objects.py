"""Models and mappings, in all four combinations.

A model writes the fields that its schema lists and no others, so it can be read by name. What it writes beyond the
reader's fields is ignored, unless the reader is closed (`extra="forbid"`). A field is looked up under each of its
names, in their order, as pydantic does: the next name counts only if the ones before may be absent.
"""

from collections.abc import Iterator

from mediator.operations.compatibility.reading.gaps import Gap, Gaps, Read, gap, within
from mediator.operations.compatibility.reading.scalars import tighter
from mediator.operations.compatibility.reading.unions import read_values
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["read_object"]

_ABSENT = "no such field"
_CLOSED = "closed: extra fields are forbidden"


def read_object(reader: Node, writer: Node, read: Read) -> Gaps:
    """An object against an object."""
    match reader.is_mapping, writer.is_mapping:
        case False, False:
            found = _model_from_model(reader, writer, read)
        case False, True:
            found = _model_from_mapping(reader, writer, read)
        case True, False:
            found = _mapping_from_model(reader, writer, read)
        case _:
            found = _mapping_from_mapping(reader, writer, read)
    return tuple(dict.fromkeys(found))


def _model_from_model(reader: Node, writer: Node, read: Read) -> Iterator[Gap]:
    used: set[str] = set()
    for name, field in reader.properties.items():
        if any(step in writer.properties for step in field.get("x-paths", ())):
            yield from within(
                name, gap(Rule.TYPE_CHANGED, "looked up through a path (AliasPath)", "a field of its own")
            )
        offered = [one for one in field.get("x-names", [name]) if one in writer.properties]
        used.update(offered[:1])  # a further name that stands beside the first one is extra to pydantic
        certain = False
        for one in offered:
            yield from within(one, read(reader.at(field), writer.at(writer.properties[one])))
            certain = one in writer.required
            if certain:
                break
        if name in reader.required and not certain:
            rule = Rule.REQUIRED_FIELD_OPTIONAL if offered else Rule.REQUIRED_FIELD_MISSING
            yield from within(name, gap(rule, "required", "may leave it out" if offered else _ABSENT))
    if _is_closed(reader):
        for name in sorted(writer.properties.keys() - used):
            yield from within(name, gap(Rule.CLOSED_READER, _CLOSED, "writes it"))


def _model_from_mapping(reader: Node, writer: Node, read: Read) -> Iterator[Gap]:
    values = writer.at(writer.data["additionalProperties"])
    for name, field in reader.properties.items():
        yield from within(name, read(reader.at(field), values))
        if name in reader.required:
            yield from within(name, gap(Rule.REQUIRED_FIELD_OPTIONAL, "required", "a mapping, which may lack it"))
        if field.get("x-paths"):
            yield from within(name, gap(Rule.TYPE_CHANGED, "looked up through a path (AliasPath)", writer))
    if _is_closed(reader):
        yield from gap(Rule.CLOSED_READER, _CLOSED, writer)


def _mapping_from_model(reader: Node, writer: Node, read: Read) -> Iterator[Gap]:
    keys, values = _keys(reader), reader.at(reader.data["additionalProperties"])
    for name, field in writer.properties.items():
        yield from within(name, read(values, writer.at(field)))
        yield from within(name, read_values(keys, writer, [name]))
    sizes = (len(writer.required), len(writer.properties))
    if tighter(reader, writer, "minProperties", "maxProperties", sizes) or _merges_keys(reader, keys):
        yield from gap(Rule.CONSTRAINT_TIGHTENED, reader, writer)


def _mapping_from_mapping(reader: Node, writer: Node, read: Read) -> Iterator[Gap]:
    keys = _keys(reader)
    yield from within(
        "{}", read(reader.at(reader.data["additionalProperties"]), writer.at(writer.data["additionalProperties"]))
    )
    yield from within("{key}", read(keys, _keys(writer)))
    if tighter(reader, writer, "minProperties", "maxProperties") or (
        keys.checks != _keys(writer).checks and _merges_keys(reader, keys)
    ):
        yield from gap(Rule.CONSTRAINT_TIGHTENED, reader, writer)


def _keys(mapping: Node) -> Node:
    return mapping.at(mapping.data.get("propertyNames", _TEXT))


_TEXT = {"type": "string"}


def _merges_keys(mapping: Node, keys: Node) -> bool:
    """Two keys may become one when they are stripped or put into one case."""
    return bool(keys.checks) and mapping.data.get("minProperties", 0) > 1


def _is_closed(model: Node) -> bool:
    return model.data.get("additionalProperties") is False
