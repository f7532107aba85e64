"""An event with a field of every kind that contracts allow: it reads itself, and so does the check."""

import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Network
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

from pydantic import (
    UUID4,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    HttpUrl,
    PastDate,
    PostgresDsn,
    RootModel,
    StringConstraints,
    create_model,
    model_serializer,
)

from contracts import ContractWarning, IntegrationEvent, OpenEnum, Sensitive
from mediator.operations.compatibility import can_read, schemas_of

T = TypeVar("T")
Sku = NewType("Sku", str)


class Grade(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    NUMBER = 1
    TEXT = "b"


class Channel(OpenEnum):
    WEB = "web"


class Numbers(RootModel[tuple[int, ...]]):
    pass


class Money(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper, validate_by_name=True, ser_json_timedelta="float")

    amount: Decimal = Field(gt=0, max_digits=10, decimal_places=2)
    currency: Literal["EUR", "USD"] = "EUR"
    valid_for: timedelta = timedelta(1)


class Page(BaseModel, Generic[T]):
    items: tuple[T, ...]
    hidden: int = Field(default=1, exclude=True)


# It is meant to have whatever may be had, also what an author would be warned of.
with warnings.catch_warnings(action="ignore", category=ContractWarning):

    class EverythingV1(IntegrationEvent):
        grade: Grade
        mixed: Mixed
        channel: Channel
        sku: Sku
        numbers: Numbers
        money: Money
        page: Page[Money]
        either: Money | Page[int] | int | str
        at: AwareDatetime
        clock: time
        past: PastDate
        url: AnyUrl
        site: HttpUrl
        database: PostgresDsn
        address: IPv4Address
        network: IPv6Network
        id4: UUID4
        words: frozenset[str]
        secret: Annotated[str, Sensitive()]
        pairs: dict[Literal["a", "b"], tuple[int, str]]
        counts: Mapping[str, int]
        ratio: FiniteFloat
        code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=3, to_upper=True)]
        nothing: tuple[()] = ()
        more: Page[Sku] | None = None


def test_it_is_called_readable() -> None:
    schemas = schemas_of(EverythingV1)

    assert can_read(schemas.reads, schemas.writes) == ()


def test_it_reads_itself() -> None:
    event = EverythingV1.model_validate(
        {
            "grade": 1, "mixed": "b", "channel": "kiosk", "sku": "s", "numbers": [1], "money": {"AMOUNT": "1"},
            "page": {"items": []}, "either": 3, "at": datetime(2026, 1, 1, tzinfo=UTC), "clock": "01:00",
            "past": date(2020, 1, 1), "url": "http://a.org", "site": "http://a.org", "database": "postgres://u:p@h/d",
            "address": "127.0.0.1", "network": "::/64", "id4": "0b1e1b3e-4b0b-4b0b-8b0b-0b1e1b3e4b0b",
            "words": ["x"], "secret": "", "pairs": {"a": [1, "x"]}, "counts": {"n": 1}, "ratio": 0.5, "code": " ab ",
        }
    )  # fmt: skip

    body = EverythingV1.__pydantic_serializer__.to_json(event)

    assert EverythingV1.model_validate_json(body) == event


def test_model_that_is_written_as_a_mapping_may_lack_its_fields() -> None:
    class Odd(BaseModel):
        size: int

        @model_serializer
        def written(self) -> dict[str, int]:
            return {"size": self.size}

    create: Any = create_model
    schemas = schemas_of(create("E", __base__=IntegrationEvent, a=(Odd, ...)))

    assert [(gap.rule, gap.path) for gap in can_read(schemas.reads, schemas.writes)] == [
        ("REQUIRED_FIELD_OPTIONAL", "a.size")
    ]


def test_times_of_the_day_with_offsets_are_not_put_in_order() -> None:
    """As texts, 01:00+02:00 stands behind 00:30+00:00, and it is the earlier one."""

    def at_least(bound: time) -> Any:
        create: Any = create_model
        return schemas_of(create("E", __base__=IntegrationEvent, a=(Annotated[time, Field(ge=bound)], ...)))

    early, late = at_least(time(1, tzinfo=timezone(timedelta(hours=2)))), at_least(time(0, 30, tzinfo=UTC))

    assert can_read(early.reads, early.writes) == ()
    assert [gap.rule for gap in can_read(late.reads, early.writes)] == ["CONSTRAINT_TIGHTENED"]
    assert can_read(at_least(time(1)).reads, at_least(time(2)).writes) == ()
