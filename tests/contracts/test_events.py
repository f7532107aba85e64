"""An integration event is frozen, fills in its own identity, and survives JSON unchanged."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field, HttpUrl, ValidationError, create_model

from contracts import ContractError, IntegrationEvent, PartitionKey, ReservedFieldError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    price: Decimal
    colours: frozenset[Colour] = frozenset()


class OrderPlaced(IntegrationEvent):
    order_id: Annotated[UUID, PartitionKey()]
    total: Decimal
    lines: tuple[Line, ...] = ()
    delivery: timedelta = timedelta(0)
    due: AwareDatetime | None = None
    day: date | None = None
    hour: time | None = None
    ratio: float = 0
    amounts: dict[str, int] = Field(default_factory=dict)
    page: HttpUrl | None = None


def test_an_event_fills_in_its_identity() -> None:
    before = datetime.now(UTC)
    event = IntegrationEvent()

    assert event.event_id.version == 7
    assert before <= event.occurred_on <= datetime.now(UTC)
    assert event.occurred_on.tzinfo is UTC
    assert event.correlation_id is None
    assert IntegrationEvent().event_id > event.event_id


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - bounds are naive
def test_the_moment_is_the_same_and_in_utc(moment: datetime) -> None:
    event = IntegrationEvent(occurred_on=moment)

    assert event.occurred_on.tzinfo is UTC
    assert event.occurred_on == moment.astimezone(UTC)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        "2026-01-01T00:00:00",
    ],
)
def test_a_moment_that_is_none_is_refused(moment: Any) -> None:
    with pytest.raises(ValidationError, match="occurred_on"):
        IntegrationEvent(occurred_on=moment)


def test_a_redefined_moment_is_in_utc_all_the_same() -> None:
    class Dated(IntegrationEvent):
        occurred_on: AwareDatetime = Field(description="when it happened")

    assert Dated(occurred_on=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))).occurred_on.tzinfo is UTC


def test_an_event_cannot_be_changed() -> None:
    event = OrderPlaced(order_id=UUID(int=1), total=Decimal(1))

    with pytest.raises(ValidationError, match="frozen"):
        event.total = Decimal(2)  # type: ignore[misc]


def test_unknown_fields_are_ignored() -> None:
    event = IntegrationEvent.model_validate({"correlation_id": "c", "added_later": 1})

    assert event.correlation_id == "c"
    assert not hasattr(event, "added_later")


def test_a_wrong_value_is_a_validation_error() -> None:
    with pytest.raises(ValidationError):
        OrderPlaced(order_id="no uuid", total=Decimal(1))  # type: ignore[arg-type]


def test_a_wrong_default_is_a_validation_error() -> None:
    class Wrong(IntegrationEvent):
        amount: int = "many"  # type: ignore[assignment]

    with pytest.raises(ValidationError, match="amount"):
        Wrong()


finite = st.decimals(allow_nan=False, allow_infinity=False)
lines = st.builds(Line, sku=st.text(), price=finite, colours=st.frozensets(st.sampled_from(Colour)))
events = st.builds(
    OrderPlaced,
    correlation_id=st.none() | st.text(),
    order_id=st.uuids(),
    total=finite,
    lines=st.lists(lines, max_size=3).map(tuple),
    delivery=st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
    due=st.none() | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    day=st.none() | st.dates(),
    hour=st.none() | st.times(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    amounts=st.dictionaries(st.text(), st.integers(-(2**63), 2**63)),
)


@given(events)
def test_an_event_survives_json_unchanged(event: OrderPlaced) -> None:
    assert OrderPlaced.model_validate_json(event.model_dump_json()) == event
    assert OrderPlaced.model_validate_json(OrderPlaced.__pydantic_serializer__.to_json(event)) == event


def test_aliases_survive_json_too() -> None:
    class Renamed(IntegrationEvent):
        amount: int = Field(alias="AMOUNT")

    event = Renamed.model_validate({"AMOUNT": 1})

    assert '"AMOUNT":1' in event.model_dump_json()
    assert Renamed.model_validate_json(event.model_dump_json()) == event


def test_a_duration_is_written_as_iso_8601() -> None:
    event = OrderPlaced(order_id=UUID(int=1), total=Decimal(1), delivery=timedelta(days=1, seconds=2))

    assert '"delivery":"P1DT2S"' in event.model_dump_json()


@pytest.mark.parametrize(
    ("field", "annotation"),
    [
        ("event_id", str),
        ("event_id", UUID | None),
        ("occurred_on", date),
        ("correlation_id", str),
        ("correlation_id", UUID),
    ],
)
def test_a_reserved_field_keeps_its_type(field: str, annotation: Any) -> None:
    with pytest.raises(ReservedFieldError, match=f"Made: {field} is redefined") as refusal:
        create_model("Made", __base__=IntegrationEvent, **{field: (annotation, ...)})  # type: ignore[call-overload]

    assert refusal.value.field == field
    assert isinstance(refusal.value, ContractError)


def test_a_reserved_field_cannot_become_a_class_variable() -> None:
    with pytest.raises(ReservedFieldError, match="event_id"):

        class Made(IntegrationEvent):
            event_id: ClassVar[int] = 1  # type: ignore[misc]
