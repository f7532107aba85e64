"""What a dead letter is, how letters are chosen, and what came of a deed.

A selection names letters and the state they were in. Whatever dies, is replayed or decided on later is not in it, so
that a person gets done what he looked at, and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, Table
from sqlalchemy.engine import RowMapping

from contracts import masked
from mediator.consuming.reading import reading_subscriber
from mediator.errors import SettingsError, UnreadableMessageError
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.cloudevents import from_headers
from mediator.messaging.registry import Registry
from mediator.storage.parked import DEAD

__all__ = [
    "Attempt",
    "DeadLetter",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterOutcome",
    "DeadLetterPurge",
    "DeadLetterSelection",
    "DeadStatus",
    "conditions",
    "letter_of",
]

DeadStatus: TypeAlias = Literal["dead", "discarded"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the handler on a delivery, or of the transport on an envelope."""

    number: int
    """From 1; a replay counts anew."""
    at: datetime
    """When it failed; when it began, if it never said how it ended. By the database's clock."""
    error_type: str | None
    """None when it never said how it ended: its process died in it."""
    error: str | None
    """The message, at most 500 characters of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery that waits for a person."""

    position: int
    """Names it in every operation."""
    subscriber_id: str
    event_id: UUID
    status: DeadStatus
    reason: str
    attempts: int
    history: tuple[Attempt, ...]
    """The last twenty attempts, the oldest first, those before a replay as well; of the sending side, the last one."""
    parked_at: datetime
    died_at: datetime
    """When it died, or was discarded or restored since: what `RetentionSettings` counts from."""
    topic: str
    partition_key: str | None
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    """As it came, sensitive values and all: to show it to people, take `shown`."""
    catalog: EventCatalog = field(repr=False, compare=False)
    """The types that are known here."""
    correlation_id: str | None
    error_type: str | None
    error: str | None
    traceback: str | None
    fingerprint: str | None
    skipped: bool
    """Whether the later events of its key are handled without it: its handler has `when_dead = "skip"`."""

    @property
    def shown(self) -> Any:
        """The data in the body, masked as its contract says; None when it is no JSON, or of a type not known here.

        It is read anew each time, and not for a letter that is only listed: a body may take long to read.
        """
        # Of a type that is not known nobody can tell what is sensitive.
        try:
            event_class = self.catalog.named(from_headers(self.topic, self.headers, self.body)).event_class
            return masked(json.loads(self.body), event_class)
        except (UnreadableMessageError, ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters with equal errors at one subscriber."""

    fingerprint: str
    subscriber_id: str
    error_type: str
    error: str
    """The message of the oldest."""
    count: int


class DeadLetterFilter(TypedDict, total=False):
    """Which letters are meant: those that have all these values. What is left out, or None, does not matter."""

    module: str | None
    """Its handlers, and what it could not read."""
    subscriber_id: str | None
    event_id: UUID | None
    topic: str | None
    reason: str | None
    error_type: str | None
    fingerprint: str | None
    correlation_id: str | None
    died_from: datetime | None
    """Aware; this moment or later."""
    died_before: datetime | None
    """Aware; earlier than this moment."""


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Letters as they were at one moment, oldest first."""

    status: DeadStatus
    letters: tuple[tuple[int, datetime], ...]
    """Position and `died_at` of each: a letter that died again has another one."""

    def __post_init__(self) -> None:
        _check(self.status)

    def __len__(self) -> int:
        return len(self.letters)


@dataclass(frozen=True, slots=True)
class DeadLetterOutcome:
    """What came of a deed on a selection."""

    done: int
    skipped: Mapping[int, str]
    """The positions that nothing was done about, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPurge:
    """What a purge removed, or would remove."""

    dry_run: bool
    count: int
    oldest: datetime | None
    """The earliest `died_at`; None when there is nothing."""
    by_subscriber: Mapping[str, int]
    skipped: Mapping[int, str]
    """The positions that nothing was done about, and why."""


def conditions(
    parked: Table, registry: Registry, status: DeadStatus, chosen: DeadLetterFilter
) -> Sequence[ColumnElement[bool]]:
    """What a row fulfils that is meant; raises SettingsError for what cannot be meant."""
    _check(status)
    row, found = parked.c, [parked.c.status == status]
    for name, value in chosen.items():
        match name, value:
            case _, None:
                pass
            case "module", str():
                found.append(row.subscriber_id.in_(_subscribers_of(registry, value)))
            case "died_from", datetime():
                found.append(row.died_at >= _aware(name, value))
            case "died_before", datetime():
                found.append(row.died_at < _aware(name, value))
            case _ if name in DeadLetterFilter.__annotations__ and name in row:
                found.append(row[name] == value)
            case _:
                known = ", ".join(DeadLetterFilter.__annotations__)
                raise TypeError(f"dead letters cannot be chosen by {name}={value!r}; they can by {known}")
    return found


def letter_of(row: RowMapping, registry: Registry) -> DeadLetter:
    """The letter that a row is."""
    holds_a_key = row["status"] == DEAD and row["partition_key"] is not None
    history = json.loads(row["history"] or "[]")
    changed = {
        "headers": json.loads(row["headers"]),
        "history": tuple(Attempt(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in history),
        "catalog": registry.catalog,
        "skipped": holds_a_key and registry.skips_dead(row["subscriber_id"]),
    }
    names = DeadLetter.__dataclass_fields__.keys() - changed.keys()
    return DeadLetter(**{name: row[name] for name in names}, **changed)


def _check(status: str) -> None:
    """Deliveries that are still tried are nobody's to decide on."""
    if status not in get_args(DeadStatus):
        raise SettingsError("status", status, f"use one of {', '.join(get_args(DeadStatus))}")


def _subscribers_of(registry: Registry, module: str) -> Sequence[str]:
    if module not in registry.modules:
        raise SettingsError("module", module, f"this application has {', '.join(registry.modules)}")
    handlers = (entry for entry in registry.subscribers if entry.module == module)
    return [reading_subscriber(module), *(name for entry in handlers for name in (entry.id, *entry.aliases))]


def _aware(name: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise SettingsError(name, moment, "give it a time zone, as datetime.now(UTC) has")
    return moment
