"""What to do about a finding: the change that keeps both sides reading, or a new version."""

from collections.abc import Mapping
from typing import Final

from mediator.operations.compatibility.rules import Direction, Rule

__all__ = ["class_name", "fix_of"]

_TODAY: Final[Mapping[Rule, str]] = {
    Rule.REQUIRED_FIELD_MISSING: "make it optional with a default",
    Rule.REQUIRED_FIELD_OPTIONAL: "give it a default for events that leave it out",
    Rule.TYPE_CHANGED: "keep the old type too, as in `new | old`, or give the new one a field of its own",
    Rule.NULL_NOT_ALLOWED: "let it be None",
    Rule.FORMAT_NARROWED: "keep the wider type, and check the form in the handler",
    Rule.ENUM_VALUE_UNKNOWN: "keep the value, or use an OpenEnum",
    Rule.ENUM_NARROWED: "keep the wider type, or use an OpenEnum",
    Rule.VARIANT_UNKNOWN: "keep the variant",
    Rule.CONSTRAINT_TIGHTENED: "keep the wider limits",
    Rule.PATTERN_CHANGED: "keep the pattern, or leave it out",
    Rule.CLOSED_READER: 'remove extra="forbid", or keep the field',
}
_YESTERDAY: Final[Mapping[Rule, str]] = {
    Rule.REQUIRED_FIELD_MISSING: "go on writing it",
    Rule.REQUIRED_FIELD_OPTIONAL: "go on writing it always",
    Rule.TYPE_CHANGED: "keep the type, and give the new one a field of its own",
    Rule.NULL_NOT_ALLOWED: "go on writing a value, and never None",
    Rule.FORMAT_NARROWED: "keep the form that readers expect",
    Rule.ENUM_VALUE_UNKNOWN: "write only values that old readers know; with an OpenEnum they would know all",
    Rule.ENUM_NARROWED: "write only values that old readers know",
    Rule.VARIANT_UNKNOWN: "write only variants that old readers know",
    Rule.CONSTRAINT_TIGHTENED: "keep the limits that readers expect",
    Rule.PATTERN_CHANGED: "keep the pattern that readers expect",
    Rule.CLOSED_READER: "do not add fields as long as readers are closed",
}


def fix_of(rule: Rule, direction: Direction, next_class: str) -> str:
    """What to do about a gap; `next_class` is the name that a new version would have."""
    here = (_TODAY if direction is Direction.BACKWARD else _YESTERDAY)[rule]
    upcaster = " and an upcaster" if direction is Direction.BACKWARD else " beside it until the last reader has moved"
    return f"{here}; or add {next_class}{upcaster}"


def class_name(wire_type: str, version: int) -> str:
    """The usual name of an event's class: ordering.order-placed, 3 → OrderPlacedV3."""
    words = wire_type.rpartition(".")[2].split("-")
    return "".join(word.capitalize() for word in words) + f"V{version}"
