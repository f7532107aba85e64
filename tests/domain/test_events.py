import dataclasses
from dataclasses import dataclass

import pytest

from mediator.domain import DomainEvent


@dataclass(frozen=True)
class Renamed(DomainEvent):
    name: str


def test_a_domain_event_is_a_value() -> None:
    assert Renamed("Ada") == Renamed("Ada")
    assert Renamed("Ada") != Renamed("Bob")
    assert {Renamed("Ada"), Renamed("Ada")} == {Renamed("Ada")}


def test_what_happened_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Renamed("Ada").name = "Bob"  # type: ignore[misc]


def test_a_domain_event_may_have_slots() -> None:
    @dataclass(frozen=True, slots=True)
    class Small(DomainEvent):
        number: int

    assert not hasattr(Small(1), "__dict__")
