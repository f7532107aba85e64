"""A gap: one place where a reader would not read what a writer writes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["Gap", "Gaps", "Read", "gap", "within"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Which rule, where, and what both sides say."""

    rule: Rule
    path: str
    """`lines[].price`: an element of `lines`; `prices{}`: a value of the mapping `prices`, `prices{key}` a key."""
    reader: str
    writer: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.path or 'the event itself'}: reader {self.reader}; writer {self.writer}"


Gaps: TypeAlias = tuple[Gap, ...]
Read: TypeAlias = Callable[[Node, Node], Gaps]


def gap(rule: Rule, reader: Node | str, writer: Node | str) -> Gaps:
    """A single gap, here."""
    sides = [side if isinstance(side, str) else side.words() for side in (reader, writer)]
    return (Gap(rule, "", *sides),)


def within(step: str, gaps: Iterable[Gap]) -> Gaps:
    """The gaps of something that stands below this place."""
    return tuple(
        replace(found, path=f"{step}.{found.path}" if found.path[:1] not in {"", "[", "{"} else step + found.path)
        for found in gaps
    )
