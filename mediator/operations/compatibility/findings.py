"""What the check of contracts tells: one finding for each thing that is wrong, and a report of all.

report = check(events, baseline)
print(report)                    # for people
json.dumps(report.to_dict())     # for programs
sys.exit(0 if report.ok else 1)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mediator.operations.compatibility.rules import Direction, Rule, Severity

__all__ = ["Finding", "Report"]

_SIDES = {
    Direction.BACKWARD: ("the class of today", "the accepted state {}"),
    Direction.FORWARD: ("the accepted state {}", "the class of today"),
    None: ("now", "accepted"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with an event, or that could be better."""

    rule: Rule
    event: str
    """The event's name on the wire."""
    version: str
    fix: str
    path: str = ""
    """`lines[].price`; empty when it is about the event itself."""
    direction: Direction | None = None
    """Who reads whom; None for what is not about reading."""
    reader: str = ""
    """What the reading side says, or what is stated now."""
    writer: str = ""
    """What the writing side says, or what was accepted."""
    state: int | None = None
    """The number of the accepted state that it is compared with, counted from 1; the newest, if it is about several."""
    read_by: tuple[str, ...] = ()
    """Ids of the subscribers that receive the event, as far as the registry tells."""

    @property
    def severity(self) -> Severity:
        return self.rule.severity

    @property
    def key(self) -> tuple[str, str, str]:
        """What an accepted breaking change is known by."""
        return self.rule.value, self.path, self.direction.value if self.direction else ""

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON takes it."""
        return {"severity": self.severity.value, **asdict(self)}

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        way = f" ({self.direction})" if self.direction else ""
        lines = [f"{self.severity} {self.rule}: {self.event} {self.version}".rstrip() + where + way]
        for name, text in zip(_SIDES[self.direction], (self.reader, self.writer), strict=True):
            if text:
                lines.append(f"  {name.format(self.state)}: {text}")
        if self.read_by:
            lines.append(f"  read by: {', '.join(self.read_by)}")
        return "\n".join([*lines, f"  fix: {self.fix}"])


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, those that break something first."""

    findings: tuple[Finding, ...]
    events: int
    """How many event classes were looked at."""

    @property
    def ok(self) -> bool:
        """Whether nothing breaks, and the baseline knows all there is."""
        return not (self.of(Severity.BREAKING) or self.of(Severity.UNACCEPTED))

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        counts: Mapping[str, int] = {severity.value: len(self.of(severity)) for severity in Severity}
        findings = [finding.to_dict() for finding in self.findings]
        return {"ok": self.ok, "events": self.events, "counts": counts, "findings": findings}

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of(severity))} {severity}" for severity in Severity)
        return "\n".join([*map(str, self.findings), f"{self.events} events: {counts}"])
