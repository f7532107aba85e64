"""The rules: what can come between a writer and a reader, how bad it is, and what to do about it.

    Rule.REQUIRED_FIELD_MISSING.severity     # breaking
    Rule.DEFAULT_CHANGED.severity            # info

A rule's name is its id in reports, in baseline files and in the documentation: it never changes its meaning.
"""

from enum import StrEnum
from typing import Self

__all__ = ["Direction", "Level", "Rule", "Severity"]


class Severity(StrEnum):
    """How bad a finding is."""

    BREAKING = "breaking"
    """Somebody will not read, or not find, what somebody else wrote."""
    UNACCEPTED = "unaccepted"
    """Nothing breaks, but the baseline does not know it yet, and could not protect it later."""
    INFO = "info"
    ADVICE = "advice"


class Direction(StrEnum):
    """Who reads whom."""

    BACKWARD = "backward"
    """The class of today reads what an accepted state wrote: outbox rows, deliveries, dead letters."""
    FORWARD = "forward"
    """An accepted state reads what the class of today writes: readers that are not deployed yet."""


class Level(StrEnum):
    """Which directions are looked at; each one against every accepted state."""

    NONE = "none"
    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"

    @property
    def directions(self) -> tuple[Direction, ...]:
        match self:
            case Level.NONE:
                return ()
            case Level.FULL:
                return (Direction.BACKWARD, Direction.FORWARD)
            case _:
                return (Direction(self.value),)


class Rule(StrEnum):
    """What a finding is about."""

    severity: Severity

    def __new__(cls, name: str, severity: Severity = Severity.BREAKING) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.severity = severity
        return member

    REQUIRED_FIELD_MISSING = "REQUIRED_FIELD_MISSING"
    REQUIRED_FIELD_OPTIONAL = "REQUIRED_FIELD_OPTIONAL"
    TYPE_CHANGED = "TYPE_CHANGED"
    NULL_NOT_ALLOWED = "NULL_NOT_ALLOWED"
    FORMAT_NARROWED = "FORMAT_NARROWED"
    ENUM_VALUE_UNKNOWN = "ENUM_VALUE_UNKNOWN"
    ENUM_NARROWED = "ENUM_NARROWED"
    VARIANT_UNKNOWN = "VARIANT_UNKNOWN"
    CONSTRAINT_TIGHTENED = "CONSTRAINT_TIGHTENED"
    PATTERN_CHANGED = "PATTERN_CHANGED"
    CLOSED_READER = "CLOSED_READER"

    EVENT_REMOVED = "EVENT_REMOVED"
    VERSION_REMOVED = "VERSION_REMOVED"
    EVENT_RENAMED = "EVENT_RENAMED"
    TOPIC_CHANGED = "TOPIC_CHANGED"
    PARTITION_KEY_CHANGED = "PARTITION_KEY_CHANGED"
    SENSITIVE_REMOVED = "SENSITIVE_REMOVED"

    NOT_ACCEPTED = "NOT_ACCEPTED", Severity.UNACCEPTED
    DEFAULT_CHANGED = "DEFAULT_CHANGED", Severity.INFO
    DESCRIPTION_CHANGED = "DESCRIPTION_CHANGED", Severity.INFO

    NAME_NOT_PAST_TENSE = "NAME_NOT_PAST_TENSE", Severity.ADVICE
    VERSION_SUFFIX = "VERSION_SUFFIX", Severity.ADVICE
    DESCRIPTION_MISSING = "DESCRIPTION_MISSING", Severity.ADVICE
    OWNER_MISSING = "OWNER_MISSING", Severity.ADVICE
