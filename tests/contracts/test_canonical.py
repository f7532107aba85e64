"""Different partition keys never share a text, and equal ones have one."""

import decimal
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts import ContractError, PartitionKeyError, canonical_key
from contracts.canonical import MAX_KEY_LENGTH, canonical_value

AN_ID = UUID("0198C5B4-1111-7222-8333-444455556666")


class Region(StrEnum):
    EU = "eu"
    SEVEN = "7"


class Level(IntEnum):
    LOW = 7


class Mixed(Enum):
    NOTHING = None
    ID = AN_ID


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["orders"], "orders"),
        ([AN_ID], "0198c5b4-1111-7222-8333-444455556666"),
        ([7], "7"),
        ([-7], "-7"),
        (["acme", AN_ID], "acme|0198c5b4-1111-7222-8333-444455556666"),
        (["a|b"], "a~1b"),
        (["a~1b"], "a~01b"),
        (["7"], "~s7"),
        (["-007"], "~s-007"),
        (["٣"], "٣"),
        ([str(AN_ID)], "~s0198c5b4-1111-7222-8333-444455556666"),
        ([str(AN_ID).upper()], "0198C5B4-1111-7222-8333-444455556666"),
        ([""], "~s"),
        ([None], "~n"),
        ([True, False], "~b1|~b0"),
        ([Decimal("19.90")], "~d19.9"),
        ([Decimal("-0.000")], "~d0"),
        ([Decimal("1.00")], "~d1"),
        ([Decimal(100)], "~d100"),
        ([Decimal("0.05")], "~d0.05"),
        ([Decimal("-1E+30")], "~d-1E30"),
        ([Decimal("1E-30")], "~d1E-30"),
        ([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)], "~t2026-01-02T03:04:05.000000+00:00"),
        ([datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))], "~t2026-01-02T03:04:05.000000+00:00"),
        ([date(2026, 1, 2)], "~a2026-01-02"),
        ([Region.EU], "~eeu"),
        ([Region.SEVEN, Level.LOW], "~e~s7|~e7"),
        ([Mixed.NOTHING, Mixed.ID], "~e~n|~e0198c5b4-1111-7222-8333-444455556666"),
        ([16**300], "~i1" + "0" * 300),
    ],
)
def test_keys_are_readable(values: list[object], text: str) -> None:
    assert "|".join(canonical_value(value, "here") for value in values) == text
    assert len(text) > MAX_KEY_LENGTH or canonical_key(values) == text


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
awkward_texts = st.text("~|0178sbnd-e", max_size=5) | st.uuids().map(str) | st.integers().map(str)
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones())  # noqa: DTZ001 - bounds are naive
numbers = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("1.0"), Decimal("1.00"), Decimal(1)]
)
members: st.SearchStrategy[Enum] = st.sampled_from([*Region, *Level, *Mixed])
values = (
    texts
    | awkward_texts
    | st.integers()
    | st.booleans()
    | st.uuids()
    | numbers
    | moments
    | st.dates()
    | st.none()
    | members
)
keys = st.lists(values, min_size=1, max_size=4).map(tuple)


def identity(value: object) -> object:
    """What a value is, whatever Python holds to be equal: True is not 1, and a moment is the same in every timezone."""
    match value:
        case Enum():
            return "enum", identity(value.value)
        case datetime():
            return "datetime", value.astimezone(UTC)
        case _:
            return type(value).__name__, value


@settings(max_examples=1_000)
@given(keys, keys)
@example(("a", "b"), ("a|b",))
@example(("a~1b",), ("a|b",))
@example(("~n",), (None,))
@example(("",), (None,))
@example(("~s7",), ("7",))
@example(("7",), (7,))
@example((True,), (1,))
@example((Decimal(1),), (1,))
@example((Decimal("1.0"),), (Decimal("1.00"),))
@example((date(2026, 1, 1),), (datetime(2026, 1, 1, tzinfo=UTC),))
@example((Level.LOW,), (7,))
@example((Region.EU,), ("eu",))
def test_two_keys_share_a_text_exactly_when_they_are_equal(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    equal = [identity(value) for value in one] == [identity(value) for value in other]

    assert (canonical_key(one) == canonical_key(other)) is equal


@given(keys)
def test_a_key_falls_apart_into_its_values_again(key: tuple[object, ...]) -> None:
    parts = [canonical_value(value, "here") for value in key]

    assert "|".join(parts).split("|") == parts


@given(numbers, st.integers(1, 30))
def test_trailing_zeros_make_no_other_key(number: Decimal, zeros: int) -> None:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    padded = Decimal((sign, (*digits, *[0] * zeros), exponent - zeros))

    assert canonical_key([padded]) == canonical_key([number])


def test_the_decimal_context_has_no_say() -> None:
    number = Decimal("123456789.123456789E+40")
    usual = canonical_key([number])
    with decimal.localcontext(decimal.Context(prec=2, capitals=0)):
        assert canonical_key([number]) == usual == "~d123456789123456789E31"


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        1.5,
        b"a",
        ("a",),
        datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        "a\0b",
        "\ud800",
    ],
)
def test_a_value_without_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(PartitionKeyError, match="value 2") as refusal:
        canonical_key(["fine", value])

    assert isinstance(refusal.value, ContractError)


def test_a_key_needs_a_value() -> None:
    with pytest.raises(PartitionKeyError, match="no values"):
        canonical_key([])


def test_a_long_key_becomes_a_hash_that_no_short_key_can_have() -> None:
    longest, too_long = canonical_key(["a" * 200]), canonical_key(["a" * 201])

    assert longest == "a" * 200
    assert too_long.startswith("~h")
    assert len(too_long) == 66
    assert canonical_key([too_long]) != too_long
    assert canonical_key(["a" * 202]) != too_long


def test_differently_composed_characters_are_different_keys() -> None:
    assert canonical_key(["é"]) != canonical_key(["e\u0301"])
