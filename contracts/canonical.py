"""The canonical text of a partition key: equal keys give equal text, different keys never do.

    canonical_key([UUID("…")])            → "0198c5b4-…"      a UUID is its 36 characters
    canonical_key(["eu|west", 7])         → "eu~1west|7"      values are joined with |
    canonical_key([Decimal("1.00")])      → "~d1"
    canonical_key(["7", None, True])      → "~s7|~n|~b1"

Order is kept per key. Were two keys to share a text (as `"a|b"` and `"a", "b"` do when values are simply joined), one
aggregate's failure would hold back another; were one key to have two texts, its events would overtake each other.

Why different keys never share a text: the text of a value contains no `|`, so a key's text falls apart into its values
again. A value's text either starts with `~` and a letter, which names its type, or is a whole number, or is a UUID in
lower case, or else is a string. A string is never mistaken for another type: its own `~` became `~0`, its `|` became
`~1`, and digits are no letters; when it is empty or looks like a number or a UUID, it gets the tag `~s`. Within each
type the text is exact.

    ~n none    ~b0 ~b1 bool       ~i large int, in hex    ~d Decimal    ~s string that looks like something else
    ~a date    ~t moment in UTC   ~e enum member, followed by the text of its value

An enum member's key is its value: members of two enums with equal values have equal keys. There is no Unicode
normalisation. A key longer than 200 characters becomes `~h` and the SHA-256 of its text.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from uuid import UUID

from contracts.errors import PartitionKeyError

__all__ = ["CANONICAL_TYPES", "MAX_KEY_LENGTH", "canonical_key", "canonical_value", "join_key"]

CANONICAL_TYPES: tuple[type, ...] = (str, int, bool, UUID, Decimal, datetime, date, type(None))
MAX_KEY_LENGTH = 200

_LOOKS_LIKE_ANOTHER_TYPE = re.compile(r"(?:-?[0-9]+|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})?")
_UNSENDABLE = re.compile("[\0\ud800-\udfff]")
_LARGE_INT_BITS = 1024  # far below the limit that Python sets to decimal conversion
_READABLE_EXPONENT = 20


def canonical_key(values: Sequence[object]) -> str:
    """Return the text of the key that these values form, in their order."""
    if not values:
        raise PartitionKeyError("partition key", "no values are given", "pass at least one value")
    return join_key(canonical_value(value, f"partition key, value {n}") for n, value in enumerate(values, 1))


def join_key(texts: Iterable[str]) -> str:
    """Return the key that consists of these canonical values."""
    key = "|".join(texts)
    return key if len(key) <= MAX_KEY_LENGTH else "~h" + sha256(key.encode()).hexdigest()


def canonical_value(value: object, where: str) -> str:  # noqa: PLR0911 - one line for each type
    """Return the text of one value, which no other value has; `where` is for the error."""
    match value:
        case None:
            return "~n"
        case bool():
            return f"~b{value:d}"
        case Enum():  # before int and str, whose subclass a member may be
            return "~e" + canonical_value(value.value, where)
        case int():
            return int.__repr__(value) if value.bit_length() <= _LARGE_INT_BITS else f"~i{value:x}"
        case str():
            return _string(value, where)
        case UUID():
            return str(value)
        case Decimal():
            return "~d" + _decimal(value, where)
        case datetime():
            return "~t" + _moment(value, where)
        case date():
            return "~a" + value.isoformat()
        case _:
            raise PartitionKeyError(
                where,
                f"a value of type {type(value).__name__} has no canonical form",
                "use str, int, bool, UUID, Decimal, an aware datetime, date, or an Enum of these",
            )


def _string(value: str, where: str) -> str:
    if _UNSENDABLE.search(value):
        raise PartitionKeyError(
            where, "the text contains NUL or a lone surrogate", "brokers cannot carry it: clean the value"
        )
    if _LOOKS_LIKE_ANOTHER_TYPE.fullmatch(value):
        return "~s" + value
    return value.replace("~", "~0").replace("|", "~1")


def _decimal(value: Decimal, where: str) -> str:
    # By hand: normalize() rounds to the context's precision, and str() takes its E from the context.
    sign, digit_tuple, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise PartitionKeyError(where, f"{value} is not a number", "give the key a finite value")
    digits = "".join(map(str, digit_tuple)).lstrip("0")
    if not digits:
        return "0"
    significant = digits.rstrip("0")
    exponent += len(digits) - len(significant)
    minus = "-" if sign else ""
    if abs(exponent) > _READABLE_EXPONENT:
        return f"{minus}{significant}E{exponent}"
    if exponent >= 0:
        return minus + significant + "0" * exponent
    padded = significant.zfill(1 - exponent)
    return f"{minus}{padded[:exponent]}.{padded[exponent:]}"


def _moment(value: datetime, where: str) -> str:
    if value.utcoffset() is None:
        raise PartitionKeyError(where, "the datetime is naive", "give it a timezone, such as datetime.UTC")
    try:
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise PartitionKeyError(
            where, f"{value} is outside the years 1 to 9999 in UTC", "use a later or earlier moment"
        ) from None
