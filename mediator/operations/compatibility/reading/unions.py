"""Unions, enums and literals: every alternative of the writer has to be one that the reader knows.

A plain union of the reader tries its members, so one that fits is enough. A discriminated one looks at the tag first
and then reads by that member alone, so the writer has to say its tag, and each tag leads to one member.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mediator.operations.compatibility.reading.gaps import Gaps, Read, gap, within
from mediator.operations.compatibility.reading.values import is_among, refusal
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node, values_text

__all__ = ["read_alternatives", "read_into_union", "read_values"]


def read_alternatives(reader: Node, writer: Node, read: Read) -> Gaps:
    """The writer's union: the reader has to read each member."""
    callable_name = writer.data.get("x-discriminator")
    if isinstance(callable_name, str) and callable_name == reader.data.get("x-discriminator"):
        return _read_by_tags(reader, writer, read)
    gaps: dict[Any, None] = {}
    for alternative in writer.alternatives:
        gaps.update(dict.fromkeys(read(reader, alternative)))
    return tuple(gaps)


def read_into_union(reader: Node, writer: Node, read: Read) -> Gaps:  # noqa: PLR0911 - one for each way to fit
    """The reader's union, and a writer that is none."""
    names = reader.data.get("x-discriminator")
    if names is not None:
        return _read_tagged(reader, writer, names, read)
    if writer.values is not None:
        unknown = [
            value for value in writer.values if all(read_values(one, writer, [value]) for one in reader.alternatives)
        ]
        return gap(Rule.ENUM_VALUE_UNKNOWN, reader, values_text(unknown)) if unknown else ()
    if writer.types == {"boolean"} and all(
        any(not read_values(one, writer, [value]) for one in reader.alternatives) for value in (True, False)
    ):
        return ()
    attempts = [(one, read(one, writer)) for one in reader.alternatives]
    if any(not gaps for _, gaps in attempts):
        return ()
    if "null" in writer.types:
        return gap(Rule.NULL_NOT_ALLOWED, reader, writer)
    alike = [gaps for one, gaps in attempts if one.all_types & writer.types]
    if len(alike) == 1:
        return alike[0]
    return gap(Rule.VARIANT_UNKNOWN if alike else Rule.TYPE_CHANGED, reader, writer)


def read_values(reader: Node, writer: Node, values: Sequence[Any] | None = None) -> Gaps:
    """Single values, each against a reader that is no union."""
    values = writer.values or () if values is None else values
    if reader.alternatives:
        unknown = [value for value in values if all(read_values(one, writer, [value]) for one in reader.alternatives)]
        return gap(Rule.ENUM_VALUE_UNKNOWN, reader, values_text(unknown)) if unknown else ()
    if reader.values is not None:
        unknown = [value for value in values if not is_among(value, reader.values)]
        return gap(Rule.ENUM_VALUE_UNKNOWN, reader, values_text(unknown)) if unknown else ()
    for value in values:
        rule = refusal(reader, value)
        if rule is not None:
            return gap(rule, reader, values_text([value]))
    return ()


def _read_tagged(reader: Node, writer: Node, names: str | list[str], read: Read) -> Gaps:
    if isinstance(names, str) or "object" not in writer.types or not writer.properties:
        return gap(Rule.VARIANT_UNKNOWN, reader, writer)
    name = next((name for name in names if name in writer.properties), None)
    if name is None or name not in writer.required:
        return within(names[0], gap(Rule.REQUIRED_FIELD_MISSING, "a tag that names the variant", "no such field"))
    tag = writer.at(writer.properties[name])
    if not tag.values:
        return within(name, gap(Rule.VARIANT_UNKNOWN, values_text(reader.data["x-tags"]), tag))
    known = dict(_members(reader))
    unknown = [value for value in tag.values if _tag(value) not in known]
    if unknown:
        return within(name, gap(Rule.VARIANT_UNKNOWN, values_text(reader.data["x-tags"]), values_text(unknown)))
    if len(tag.values) > 1:
        # Each member is read with only its own tag: a writer that says several is compared with the tag left out.
        gaps: dict[Any, None] = {}
        for value in tag.values:
            found = [one for one in read(known[_tag(value)], writer) if one.path != name]
            gaps.update(dict.fromkeys(found))
        return tuple(gaps)
    return read(known[_tag(tag.values[0])], writer)


def _read_by_tags(reader: Node, writer: Node, read: Read) -> Gaps:
    """A function chooses the tag on both sides: the same one, as far as its name tells."""
    known = dict(_members(reader))
    gaps: Gaps = ()
    for tag, alternative in _members(writer):
        if tag not in known:
            return gap(Rule.VARIANT_UNKNOWN, values_text(reader.data["x-tags"]), values_text([tag[1]]))
        gaps += read(known[tag], alternative)
    return gaps


def _members(union: Node) -> Sequence[tuple[tuple[type, Any], Node]]:
    choices: Sequence[Mapping[str, Any]] = union.data.get("oneOf", ())
    tags = union.data.get("x-tags", ())
    return [(_tag(tag), union.at(choice)) for tag, choice in zip(tags, choices, strict=True)]


def _tag(value: Any) -> tuple[type, Any]:
    return type(value), value  # 1 and true are equal in Python
