"""What must not move without anybody's noticing: names on the wire, topics, partition keys, marks of sensitive values.

A class that is renamed, or an entity whose plural changes, moves an event to another name or topic. Both sides go on
working, and no event arrives. So what was accepted is locked, and a move is told apart from an event that goes while
another comes.
"""

from collections.abc import Iterable, Iterator, Mapping

from mediator.operations.compatibility.baseline import BaselineEntry
from mediator.operations.compatibility.findings import Finding
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node
from mediator.operations.compatibility.schemas.outlines import outline
from mediator.operations.compatibility.schemas.tidying import shape
from mediator.operations.compatibility.states import EventState

__all__ = ["locked", "removed", "renamed_to"]

_ALIKE = 0.6
"""The share of fields that an event and its successor have in common, if it is the same event under another name."""
_ALWAYS = frozenset({"event_id", "occurred_on", "correlation_id"})


def locked(state: EventState, entry: BaselineEntry) -> Iterator[Finding]:
    """What moved although it was accepted as it was."""
    if state.topic != entry.topic:
        domain, scope, topic = _parts(entry)
        internal = ", internal=True" if scope == "internal" else ""
        yield Finding(
            rule=Rule.TOPIC_CHANGED,
            event=state.type,
            version=state.version,
            reader=state.topic,
            writer=entry.topic,
            fix=f'pin the topic with @event_topic("{topic}", domain="{domain}"{internal}, …): what is published '
            "elsewhere reaches nobody who listens here; or publish a new version there",
        )
    if state.partition_keys != entry.partition_keys:
        yield Finding(
            rule=Rule.PARTITION_KEY_CHANGED,
            event=state.type,
            version=state.version,
            reader=_keys(state),
            writer=_keys(entry),
            fix="keep the fields of the key, their order and their types: under another key, events of one aggregate "
            "overtake those that were sent before; or add a new version",
        )
    fields = {path for path, *_ in outline(Node.of(state.schemas.writes))}
    for path in entry.sensitive:
        if path not in state.sensitive and path.rstrip("[]{}") in fields:
            yield Finding(
                rule=Rule.SENSITIVE_REMOVED,
                event=state.type,
                version=state.version,
                path=path,
                reader="shown to everybody who looks at events",
                writer="Sensitive()",
                fix="mark it with Sensitive() again",
            )


def renamed_to(entry: BaselineEntry, newcomers: Iterable[EventState]) -> EventState | None:
    """The event without a baseline that looks like this one under another name; None if none does."""
    known = shape(entry.newest.writes)
    found = [state for state in newcomers if state.version == entry.version and _is_near(state, entry)]
    same = [state for state in found if shape(state.schemas.writes) == known]
    if len(same) == 1 or (not same and len(found) == 1):
        return (same or found)[0]
    return None


def removed(entry: BaselineEntry, *, others: bool, successor: EventState | None) -> Finding:
    """The finding for an entry without a class; `others` tells whether other versions of the event exist."""
    if successor is not None:
        name, domain = entry.type.rpartition(".")[2], entry.type.rpartition(".")[0]
        return Finding(
            rule=Rule.EVENT_RENAMED,
            event=entry.type,
            version=entry.version,
            reader=f"{successor.type} in {successor.topic}",
            writer=f"{entry.type} in {entry.topic}",
            fix=f'keep the name on the wire with @event_topic(…, domain="{domain}", name="{name}"); if it is another '
            "event, accept both with a reason",
        )
    return Finding(
        rule=Rule.VERSION_REMOVED if others else Rule.EVENT_REMOVED,
        event=entry.type,
        version=entry.version,
        reader="no class",
        writer=entry.topic,
        fix="keep the class as long as rows of it may lie in outboxes, inboxes or dead letters, and mark it as "
        "deprecated; then remove it and accept that with a reason",
    )


def _is_near(state: EventState, entry: BaselineEntry) -> bool:
    before, now = _fields(entry.newest.writes), _fields(state.schemas.writes)
    common = len(before & now) / max(len(before | now), 1)
    return common >= _ALIKE and (state.topic == entry.topic or state.type.split(".")[1] == entry.type.split(".")[1])


def _fields(schema: Mapping[str, object]) -> frozenset[str]:
    return frozenset(Node.of(schema).properties) - _ALWAYS


def _parts(entry: BaselineEntry) -> tuple[str, str, str]:
    _, domain, scope, *topic = entry.topic.split(".")
    if entry.version and topic[-1:] == [entry.version]:
        topic.pop()
    return domain, scope, ".".join(topic)


def _keys(side: EventState | BaselineEntry) -> str:
    return ", ".join(f"{key.field}: {key.kind}" for key in side.partition_keys) or "no partition key"
