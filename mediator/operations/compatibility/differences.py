"""The difference of two states, field by field, as data.

    for change in diff(accepted.schemas, schemas_of(OrderPlacedV1)):
        print(change)          # + coupon: string or null, optional

A field is known by its path, as in findings. What is said of it is what it reads, whether it may be absent, and its
default; what it writes only where that is something else.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mediator.operations.compatibility.schemas.exact import Schemas
from mediator.operations.compatibility.schemas.nodes import Node
from mediator.operations.compatibility.schemas.outlines import outline

__all__ = ["FieldChange", "FieldFacts", "diff", "fields_of"]

_NOTHING: dict[str, "FieldFacts"] = {}


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """What is known of a field."""

    reads: str = ""
    writes: str = ""
    optional: bool = False
    default: str = ""
    """As JSON; empty if it has none that can be shown."""
    description: str = ""

    def __str__(self) -> str:
        text = self.reads or f"only written, {self.writes}"
        text += f", written as {self.writes}" if self.reads and self.writes not in {"", self.reads} else ""
        text += ", not written" if not self.writes else ""
        text += ", optional" if self.optional else ""
        return text + (f" = {self.default}" if self.default else "")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that came, went or changed."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: FieldFacts | None
    after: FieldFacts | None

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON takes it."""
        return asdict(self)

    def __str__(self) -> str:
        path = self.path or "the event itself"
        match self.kind:
            case "added":
                return f"+ {path}: {self.after}"
            case "removed":
                return f"- {path}: {self.before}"
        if str(self.before) == str(self.after):
            return f"~ {path}: described anew"
        return f"~ {path}: {self.before} -> {self.after}"


def diff(before: Schemas | None, after: Schemas | None) -> tuple[FieldChange, ...]:
    """What changed between two states, by path; None stands for an event that is not there."""
    old = fields_of(before) if before else _NOTHING
    new = fields_of(after) if after else _NOTHING
    changes = []
    for path in sorted(old.keys() | new.keys()):
        first, second = old.get(path), new.get(path)
        if first != second:
            kind: Literal["added", "removed", "changed"] = "changed"
            kind = "added" if first is None else "removed" if second is None else kind
            changes.append(FieldChange(path, kind, first, second))
    return tuple(changes)


def fields_of(schemas: Schemas) -> dict[str, FieldFacts]:
    """All fields by path, those of nested models among them; a model within itself is entered once."""
    reads = {place[0]: place[1:] for place in outline(Node.of(schemas.reads))}
    writes = {place[0]: place[1:] for place in outline(Node.of(schemas.writes))}
    found = {}
    for path in reads.keys() | writes.keys():
        read, written = reads.get(path), writes.get(path)
        node, said, required = read or written or (Node({}, {}), {}, True)
        found[path] = FieldFacts(
            reads=read[0].words() if read else "",
            writes=written[0].words() if written else "",
            optional=bool(read) and not required,
            default=json.dumps(said["default"], sort_keys=True, ensure_ascii=False) if "default" in said else "",
            description=str(said.get("description", node.data.get("description", ""))),
        )
    return found
