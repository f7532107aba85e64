"""Aggregates record what happened to them; the unit of work picks it up before it commits.

    class Order(AggregateRoot, SQLModel, table=True):
        def place(self) -> None:
            self.record_event(OrderPlaced(self.id, self.total))

The events lie in the instance's `__dict__`, made at the first recording: an aggregate loaded by an ORM never runs
`__init__`. Each gets the next number of a sequence of the process, so that events of several aggregates can be
dispatched in the order in which they were recorded.
"""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from mediator.domain.events import DomainEvent

__all__ = ["AggregateRoot", "RecordedEvent", "forget_events", "hand_on_events", "recording_mark", "take_events"]

_ATTRIBUTE = "_recorded_events"
_next_number: Callable[[], int] = count(1).__next__


class RecordedEvent(NamedTuple):
    """A domain event, its place in the order of recording, and the aggregate that recorded it."""

    number: int
    event: DomainEvent
    aggregate: "AggregateRoot"


class AggregateRoot:
    """Guards its rules and records domain events. Works with SQLModel tables, mapped classes and dataclasses."""

    def record_event(self, event: DomainEvent) -> None:
        """Remember that `event` happened; it is dispatched before the unit of work commits."""
        if not isinstance(event, DomainEvent):
            raise TypeError(
                f"{type(self).__name__}.record_event got {event!r}: only subclasses of mediator.domain.DomainEvent "
                "can be recorded; what other modules may know is made by a converter"
            )
        self.__dict__.setdefault(_ATTRIBUTE, []).append(RecordedEvent(_next_number(), event, self))

    @property
    def recorded_events(self) -> tuple[DomainEvent, ...]:
        """What was recorded and not yet dispatched, oldest first (for tests of the domain model)."""
        return tuple(recorded.event for recorded in self.__dict__.get(_ATTRIBUTE, ()))


def take_events(aggregate: AggregateRoot) -> list[RecordedEvent]:
    """Hand over what `aggregate` recorded; it starts anew."""
    events: list[RecordedEvent] = aggregate.__dict__.pop(_ATTRIBUTE, [])
    return events


def hand_on_events(aggregate: AggregateRoot, heir: AggregateRoot) -> None:
    """Let `heir`, another object for the same aggregate, have what `aggregate` recorded."""
    if events := take_events(aggregate):
        kept = heir.__dict__.setdefault(_ATTRIBUTE, [])
        kept.extend(RecordedEvent(recorded.number, recorded.event, heir) for recorded in events)


def recording_mark() -> int:
    """A number that every event recorded from now on exceeds."""
    return _next_number()


def forget_events(aggregate: AggregateRoot, since: int = 0) -> None:
    """Drop what `aggregate` recorded after the mark `since` (everything, by default)."""
    kept = [recorded for recorded in take_events(aggregate) if recorded.number <= since]
    if kept:
        aggregate.__dict__[_ATTRIBUTE] = kept
