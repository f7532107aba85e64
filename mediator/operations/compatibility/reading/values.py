"""A single value against a node that is neither union nor enum: what a literal or a member of an enum has to pass."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["is_among", "refusal"]


def is_among(value: Any, values: Sequence[Any]) -> bool:
    """Whether JSON would call it equal to one of them: 1 is not true."""
    return any(type(value) is type(other) and value == other for other in values)


def refusal(reader: Node, value: Any) -> Rule | None:
    """Why the reader does not take this value, or None if it does."""
    match value:
        case None:
            return None if "null" in reader.types else Rule.NULL_NOT_ALLOWED
        case bool():
            return None if "boolean" in reader.types else Rule.TYPE_CHANGED
        case int() | float():
            return _number(reader, value)
        case str():
            return _text(reader, value)
        case _:
            return Rule.TYPE_CHANGED


def _number(reader: Node, value: float) -> Rule | None:
    data = reader.data
    if not ("number" in reader.types or ("integer" in reader.types and isinstance(value, int))):
        return Rule.TYPE_CHANGED
    if data.get("format") is not None:
        return Rule.FORMAT_NARROWED if reader.checks or data["format"] != "decimal" else None
    within = (
        data.get("minimum", value) <= value <= data.get("maximum", value)
        and not ("exclusiveMinimum" in data and value <= data["exclusiveMinimum"])
        and not ("exclusiveMaximum" in data and value >= data["exclusiveMaximum"])
    )
    multiple = data.get("multipleOf")
    if multiple is not None and not (isinstance(value, int) and isinstance(multiple, int) and value % multiple == 0):
        return Rule.CONSTRAINT_TIGHTENED
    return None if within else Rule.CONSTRAINT_TIGHTENED


def _text(reader: Node, value: str) -> Rule | None:  # noqa: PLR0911 - one for each thing to pass
    if "string" not in reader.types:
        return Rule.TYPE_CHANGED
    if reader.data.get("format") is not None:
        return Rule.FORMAT_NARROWED
    if reader.checks.keys() - {"to_lower", "to_upper", "strip_whitespace"}:
        return Rule.CONSTRAINT_TIGHTENED
    text = value.strip() if reader.checks.get("strip_whitespace") else value
    if not reader.data.get("minLength", 0) <= len(text) <= reader.data.get("maxLength", len(text)):
        return Rule.CONSTRAINT_TIGHTENED
    pattern = reader.data.get("pattern")
    if pattern is None:
        return None
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python(text)
    except ValidationError:
        return Rule.PATTERN_CHANGED
    return None
