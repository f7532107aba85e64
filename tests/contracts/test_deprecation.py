"""A deprecation says since when, until when, and what to use instead; what makes no sense is refused."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from contracts import Deprecation, DeprecationError, IntegrationEvent, event_topic, topic_of

SPRING, AUTUMN = date(2026, 3, 1), date(2026, 9, 1)


@event_topic("orders", domain="ordering", version="v2", owner="team-ordering")
class OrderPlacedV2(IntegrationEvent):
    pass


@event_topic("orders", domain="ordering", deprecated=Deprecation(SPRING, AUTUMN, OrderPlacedV2))
class OrderPlacedV1(IntegrationEvent):
    pass


class Unaddressed(IntegrationEvent):
    pass


def test_a_topic_tells_who_owns_it_and_what_takes_its_place() -> None:
    assert topic_of(OrderPlacedV2).owner == "team-ordering"
    assert topic_of(OrderPlacedV2).deprecated is None
    assert topic_of(OrderPlacedV1).owner == ""
    assert topic_of(OrderPlacedV1).deprecated == Deprecation(SPRING, AUTUMN, OrderPlacedV2)
    assert topic_of(OrderPlacedV1).address("dev") == "dev.ordering.public.orders.v1"


def test_it_is_over_from_the_sunset_on() -> None:
    assert not Deprecation(SPRING, AUTUMN).is_over(date(2026, 8, 31))
    assert Deprecation(SPRING, AUTUMN).is_over(AUTUMN)
    assert not Deprecation(SPRING).is_over(date.max)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((AUTUMN, SPRING), "its sunset 2026-03-01 is not after its beginning 2026-09-01"),
        ((SPRING, SPRING), "is not after its beginning"),
        ((None, SPRING), "no beginning"),
        (("2026-03-01",), "since='2026-03-01' is no day; pass a datetime.date"),
        ((datetime(2026, 3, 1, tzinfo=UTC),), "is no day"),
        ((SPRING, "soon"), "sunset='soon' is no day"),
        ((SPRING, None, "OrderPlacedV2"), "its replacement 'OrderPlacedV2' is no integration event"),
        ((SPRING, None, dict), "is no integration event"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: Any, fact: str) -> None:
    with pytest.raises(DeprecationError, match=fact):
        Deprecation(*arguments)


def test_a_replacement_needs_a_topic() -> None:
    class OldV1(IntegrationEvent):
        pass

    with pytest.raises(DeprecationError, match=r"OldV1, its replacement Unaddressed: it states no topic"):
        event_topic("old", domain="ordering", deprecated=Deprecation(SPRING, None, Unaddressed))(OldV1)


def test_a_replacement_of_the_same_event_is_newer() -> None:
    class OrderPlacedV3(IntegrationEvent):
        pass

    with pytest.raises(DeprecationError, match="v2 is not newer than v3"):
        event_topic("orders", domain="ordering", version="v3", deprecated=Deprecation(SPRING, None, OrderPlacedV2))(
            OrderPlacedV3
        )


def test_an_event_does_not_replace_itself() -> None:
    class OrderPlacedV3(IntegrationEvent):
        pass

    with pytest.raises(DeprecationError, match="it is the event itself"):
        event_topic("orders", domain="ordering", deprecated=Deprecation(SPRING, None, OrderPlacedV3))(OrderPlacedV3)


def test_another_event_may_be_the_replacement() -> None:
    class OrderTakenV1(IntegrationEvent):
        pass

    event_topic("orders", domain="ordering", deprecated=Deprecation(SPRING, None, OrderPlacedV2))(OrderTakenV1)

    deprecated = topic_of(OrderTakenV1).deprecated
    assert deprecated is not None
    assert deprecated.replacement is OrderPlacedV2
