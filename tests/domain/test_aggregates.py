"""Aggregates record domain events, whatever kind of class they are."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlmodel import Field, SQLModel

from contracts import IntegrationEvent
from mediator.domain import AggregateRoot, DomainEvent
from mediator.domain.aggregates import forget_events, recording_mark, take_events


@dataclass(frozen=True)
class Happened(DomainEvent):
    what: str


class Plain(AggregateRoot):
    pass


@dataclass
class Data(AggregateRoot):
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen(AggregateRoot):
    name: str = "fixed"


class Row(AggregateRoot, SQLModel, table=True):
    __tablename__ = "test_aggregate_rows"
    id: int | None = Field(default=None, primary_key=True)
    name: str = ""


@pytest.mark.parametrize("make", [Plain, Data, Frozen, Row])
def test_events_are_kept_in_the_order_of_recording(make: type[AggregateRoot]) -> None:
    aggregate = make()
    aggregate.record_event(Happened("first"))
    aggregate.record_event(Happened("second"))

    assert aggregate.recorded_events == (Happened("first"), Happened("second"))


def test_an_aggregate_that_an_orm_loads_without_init_can_record() -> None:
    aggregate = Plain.__new__(Plain)
    aggregate.record_event(Happened("loaded"))

    assert aggregate.recorded_events == (Happened("loaded"),)


def test_a_new_aggregate_has_recorded_nothing() -> None:
    assert Plain().recorded_events == ()


@pytest.mark.parametrize("wrong", ["a text", object(), Happened, IntegrationEvent()])
def test_only_domain_events_can_be_recorded(wrong: Any) -> None:
    aggregate = Plain()

    with pytest.raises(TypeError, match=r"Plain\.record_event got .* only subclasses of mediator\.domain\.DomainEvent"):
        aggregate.record_event(wrong)
    assert aggregate.recorded_events == ()


def test_taking_events_hands_them_over_once() -> None:
    aggregate = Plain()
    aggregate.record_event(Happened("once"))

    assert [(taken.event, taken.aggregate) for taken in take_events(aggregate)] == [(Happened("once"), aggregate)]
    assert take_events(aggregate) == []
    assert aggregate.recorded_events == ()


def test_numbers_tell_the_order_over_several_aggregates() -> None:
    one, other = Plain(), Data()
    one.record_event(Happened("1"))
    other.record_event(Happened("2"))
    one.record_event(Happened("3"))

    taken = sorted([*take_events(other), *take_events(one)], key=lambda recorded: recorded.number)
    assert [recorded.event for recorded in taken] == [Happened("1"), Happened("2"), Happened("3")]


def test_what_was_recorded_after_a_mark_can_be_forgotten() -> None:
    aggregate = Plain()
    aggregate.record_event(Happened("before"))
    mark = recording_mark()
    aggregate.record_event(Happened("after"))

    forget_events(aggregate, since=mark)

    assert aggregate.recorded_events == (Happened("before"),)


def test_everything_can_be_forgotten() -> None:
    aggregate = Plain()
    aggregate.record_event(Happened("gone"))

    forget_events(aggregate)

    assert aggregate.recorded_events == ()
    assert "_recorded_events" not in vars(aggregate)


def test_recorded_events_are_no_part_of_a_rows_data() -> None:
    row = Row(id=1, name="Ada")
    row.record_event(Happened("recorded"))

    assert row.model_dump() == {"id": 1, "name": "Ada"}
