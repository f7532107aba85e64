"""Accepting: the baseline learns what the classes are today.

    accept(events, baseline)                                         # what breaks nobody
    accept(events, baseline, reason="nobody reads the note: #412")   # and what does

Each event gets a file, or its file another state. A change of words alone (a description, a default) replaces the
newest state. A breaking change needs a reason, which is kept with the findings that it answers; without one, nothing at
all is written. A removed event keeps its file and gets the reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contracts import IntegrationEvent
from mediator.errors import OperationRefusedError
from mediator.messaging.registry import Registry
from mediator.operations.compatibility.baseline import AcceptedBreak, AcceptedState, Baseline, BaselineEntry
from mediator.operations.compatibility.checking import check, is_same
from mediator.operations.compatibility.differences import FieldChange, diff
from mediator.operations.compatibility.findings import Finding
from mediator.operations.compatibility.rules import Level, Severity
from mediator.operations.compatibility.states import EventState, classes_by_identity, state_of

__all__ = ["Acceptance", "accept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What was accepted for one event."""

    event: str
    version: str
    kind: Literal["added", "changed", "reworded", "removed", "restored"]
    path: Path
    changes: tuple[FieldChange, ...] = ()
    broken: tuple[Finding, ...] = ()
    """The breaking findings that the reason answers."""

    def __str__(self) -> str:
        broken = f", breaking {', '.join(sorted({one.rule.value for one in self.broken}))}" if self.broken else ""
        lines = [f"{self.kind}: {self.event} {self.version}".rstrip() + broken]
        return "\n".join([*lines, *(f"  {change}" for change in self.changes)])


def accept(
    events: Iterable[type[IntegrationEvent]] | Registry,
    baseline: Baseline,
    *,
    reason: str | None = None,
    level: Level | None = None,
) -> tuple[Acceptance, ...]:
    """Bring the baseline up to date; returns what changed. `events` has to be complete, as for `check`."""
    classes = classes_by_identity(events)
    breaking = check(classes.values(), baseline, level=level).of(Severity.BREAKING)
    reason = (reason or "").strip() or None
    if breaking and reason is None:
        first = breaking[0]
        more = f" and {len(breaking) - 1} more" if len(breaking) > 1 else ""
        what = f"{first.rule} at {first.path}" if first.path else str(first.rule)
        raise OperationRefusedError(
            "acceptance",
            f"{first.event} {first.version}".rstrip(),
            f"the change is breaking: {what}{more}",
            f"{first.fix}; if it has to be, give a reason".capitalize(),
        )
    before = baseline.entries()
    states = {identity: state_of(event_class) for identity, event_class in classes.items()}
    accepted: list[Acceptance] = []
    for identity in sorted(before.keys() | states.keys()):
        old, state = before.get(identity), states.get(identity)
        broken = tuple(finding for finding in breaking if (finding.event, finding.version) == identity)
        kind, new = _entry(old, state, broken, reason)
        if new != old:
            accepted.append(
                Acceptance(
                    event=identity[0],
                    version=identity[1],
                    kind=kind,
                    path=baseline.write(new),
                    changes=diff(old.newest.schemas if old else None, state.schemas if state else None),
                    broken=broken,
                )
            )
    return tuple(accepted)


def _entry(
    old: BaselineEntry | None, state: EventState | None, broken: tuple[Finding, ...], reason: str | None
) -> tuple[Literal["added", "changed", "reworded", "removed", "restored"], BaselineEntry]:
    if state is None:
        return "removed", _without_class(old, reason)
    now = AcceptedState(reads=state.schemas.reads, writes=state.schemas.writes)
    if old is None:
        return "added", BaselineEntry.of(state, (now,))
    if is_same(state, old) and not broken:
        reworded = old.newest.model_copy(update={"reads": now.reads, "writes": now.writes})
        return "reworded", BaselineEntry.of(state, (*old.states[:-1], reworded))
    if broken:
        breaks = [AcceptedBreak(rule=one.rule, path=one.path, direction=one.direction) for one in broken]
        now = now.model_copy(update={"reason": reason, "breaks": tuple(breaks)})
    return "changed" if old.removed is None else "restored", BaselineEntry.of(state, (*old.states, now))


def _without_class(old: BaselineEntry | None, reason: str | None) -> BaselineEntry:
    assert old is not None, "an identity comes from a class or from a file"  # noqa: S101 - for the type checker
    return old if old.removed is not None else old.model_copy(update={"removed": reason})
