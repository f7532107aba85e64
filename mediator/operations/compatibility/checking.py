"""The check of contracts: every class against every state that was ever accepted for it.

    report = check(shop_contracts.EVENTS, Baseline("shop_contracts/baseline"))
    report.ok                                # nothing breaks, and all is accepted

What is public is checked in both directions, since readers in other places are deployed before and after; what is
internal reads what is stored, so backward is enough.

A breaking change that was accepted with a reason is not reported again, and forgets nothing else: the older states are
still compared, and only the very findings that were accepted (rule, path and direction) are left out for them. Another
way in which a class fails to read an old row is a finding as before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from contracts import IntegrationEvent
from mediator.messaging.registry import Registry
from mediator.operations.compatibility.baseline import Baseline, BaselineEntry
from mediator.operations.compatibility.differences import fields_of
from mediator.operations.compatibility.findings import Finding, Report
from mediator.operations.compatibility.fixes import class_name, fix_of
from mediator.operations.compatibility.naming_advice import advice
from mediator.operations.compatibility.reading.comparing import can_read
from mediator.operations.compatibility.rules import Direction, Level, Rule, Severity
from mediator.operations.compatibility.schemas.tidying import shape
from mediator.operations.compatibility.states import EventState, Identity, classes_by_identity, state_of
from mediator.operations.compatibility.topic_lock import locked, removed, renamed_to

__all__ = ["check", "is_same", "level_of"]

_ORDER = tuple(Severity)


def check(
    events: Iterable[type[IntegrationEvent]] | Registry,
    baseline: Baseline,
    *,
    registry: Registry | None = None,
    level: Level | None = None,
) -> Report:
    """Compare all events with their baseline; `events` has to be complete, for what lacks counts as removed.

    With a registry the findings tell who reads the event. `level` replaces that of every event.
    """
    registry = events if registry is None and isinstance(events, Registry) else registry
    classes, entries = classes_by_identity(events), baseline.entries()
    states = {identity: state_of(event_class) for identity, event_class in classes.items()}
    newcomers = [state for identity, state in states.items() if identity not in entries]
    found: list[Finding] = []
    renamed: set[Identity] = set()
    for identity, entry in entries.items():
        if identity in states:
            next_class = _next_class(identity, states.keys() | entries.keys())
            found += _compare(states[identity], entry, level or level_of(states[identity]), next_class)
        elif entry.removed is None:
            successor = renamed_to(entry, newcomers)
            if successor is not None:
                renamed.add((successor.type, successor.version))
            others = any(other[0] == identity[0] for other in states)
            found.append(removed(entry, others=others, successor=successor))
    found += [_unaccepted(state) for state in newcomers if (state.type, state.version) not in renamed]
    for event_class in classes.values():
        found += advice(event_class)
    found = [replace(finding, read_by=_read_by(finding, classes, registry)) for finding in found]
    found.sort(key=lambda finding: (_ORDER.index(finding.severity), finding.event, finding.version))
    return Report(tuple(found), len(classes))


def level_of(state: EventState) -> Level:
    """What is looked at when nobody says otherwise."""
    return Level.BACKWARD if state.internal else Level.FULL


def is_same(state: EventState, entry: BaselineEntry) -> bool:
    """Whether the baseline knows the class as it is, words aside."""
    return (
        entry.removed is None
        and (state.topic, state.partition_keys, state.sensitive) == (entry.topic, entry.partition_keys, entry.sensitive)
        and shape(state.schemas.reads) == shape(entry.newest.reads)
        and shape(state.schemas.writes) == shape(entry.newest.writes)
    )


def _compare(state: EventState, entry: BaselineEntry, level: Level, next_class: str) -> list[Finding]:
    found = list(locked(state, entry)) if level is not Level.NONE else []
    gaps: dict[tuple[str, str, str], Finding] = {}
    for finding in _gaps(state, entry, level, next_class):
        gaps.setdefault(finding.key, finding)
    found += gaps.values()
    if not found and not is_same(state, entry):
        found.append(_unaccepted(state, entry))
    return [*found, *_words(state, entry)]


def _gaps(state: EventState, entry: BaselineEntry, level: Level, next_class: str) -> Iterator[Finding]:
    """From the newest state to the oldest; what was accepted since a state is left out for it."""
    accepted: set[tuple[str, str, str]] = set()
    for number, old in reversed(list(enumerate(entry.states, 1))):
        for direction in level.directions:
            reader, writer = (
                (state.schemas.reads, old.writes)
                if direction is Direction.BACKWARD
                else (old.reads, state.schemas.writes)
            )
            for gap in can_read(reader, writer):
                finding = Finding(
                    rule=gap.rule,
                    event=state.type,
                    version=state.version,
                    path=gap.path,
                    direction=direction,
                    reader=gap.reader,
                    writer=gap.writer,
                    state=number,
                    fix=fix_of(gap.rule, direction, next_class),
                )
                if finding.key not in accepted:
                    yield finding
        accepted.update(one.key for one in old.breaks)


def _unaccepted(state: EventState, entry: BaselineEntry | None = None) -> Finding:
    what = "it is not in the baseline" if entry is None else "it differs from the newest accepted state"
    what = "it was removed, and is back" if entry is not None and entry.removed is not None else what
    return Finding(
        rule=Rule.NOT_ACCEPTED,
        event=state.type,
        version=state.version,
        reader=what,
        fix="nothing breaks: accept it, so that later changes are compared with it",
    )


def _words(state: EventState, entry: BaselineEntry) -> Iterator[Finding]:
    before, now = fields_of(entry.newest.schemas), fields_of(state.schemas)
    for path in sorted(before.keys() & now.keys()):
        old, new = before[path], now[path]
        for rule, first, second in (
            (Rule.DEFAULT_CHANGED, old.default, new.default),
            (Rule.DESCRIPTION_CHANGED, old.description, new.description),
        ):
            if first != second:
                yield Finding(
                    rule=rule,
                    event=state.type,
                    version=state.version,
                    path=path,
                    reader=second or "none",
                    writer=first or "none",
                    fix="accept it, if the meaning is the same; a new meaning needs a new version",
                )


def _next_class(identity: Identity, known: Iterable[Identity]) -> str:
    newest = max(int(version[1:] or 0) for wire_type, version in known if wire_type == identity[0])
    return class_name(identity[0], newest + 1)


def _read_by(
    finding: Finding, classes: dict[Identity, type[IntegrationEvent]], registry: Registry | None
) -> tuple[str, ...]:
    event_class = classes.get((finding.event, finding.version))
    if registry is None or event_class is None or finding.severity is not Severity.BREAKING:
        return ()
    return tuple(
        subscriber.id
        for subscriber in registry.subscribers
        if any(registry.catalog.path(event_class, wanted) is not None for wanted in subscriber.events)
    )
