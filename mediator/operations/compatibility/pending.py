"""What accepting would change: the difference of each event from the newest state that was accepted.

for one in differences(events, baseline):
    print(one)             # changed: ordering.order-placed v1, and its fields below
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from contracts import IntegrationEvent
from mediator.operations.compatibility.baseline import Baseline
from mediator.operations.compatibility.differences import FieldChange, diff
from mediator.operations.compatibility.states import classes_by_identity, state_of

__all__ = ["EventDifference", "differences"]


@dataclass(frozen=True, slots=True)
class EventDifference:
    """An event that came, went or changed; without changes of fields, what changed stands beside them."""

    event: str
    version: str
    kind: Literal["added", "changed", "removed"]
    changes: tuple[FieldChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """The difference as JSON takes it."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([f"{self.kind}: {self.event} {self.version}".rstrip(), *(f"  {one}" for one in self.changes)])


def differences(events: Iterable[type[IntegrationEvent]], baseline: Baseline) -> tuple[EventDifference, ...]:
    """Compare each event with the newest state of its file."""
    classes, entries = classes_by_identity(events), baseline.entries()
    found = []
    for identity in sorted(classes.keys() | entries.keys()):
        event_class, entry = classes.get(identity), entries.get(identity)
        before = entry.newest.schemas if entry is not None and entry.removed is None else None
        after = None if event_class is None else state_of(event_class).schemas
        if changes := diff(before, after):
            kind: Literal["added", "changed", "removed"] = "changed"
            kind = "added" if before is None else "removed" if after is None else kind
            found.append(EventDifference(*identity, kind, changes))
    return tuple(found)
