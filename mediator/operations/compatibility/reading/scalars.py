"""Texts, numbers, booleans and what travels as one of them: a reader may take more than a writer gives, not less."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from mediator.operations.compatibility.reading.gaps import Gaps, gap
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["read_scalar", "tighter"]

_NARROWER: Final[Mapping[str, frozenset[str]]] = {
    "ipvanyaddress": frozenset({"ipv4", "ipv6"}),
    "ipvanyinterface": frozenset({"ipv4interface", "ipv6interface", "ipv4", "ipv6"}),
    "ipvanynetwork": frozenset({"ipv4network", "ipv6network"}),
}
_LENGTHS: Final[Mapping[str, tuple[int, int]]] = {"uuid": (36, 36), "date": (10, 10), "ipv4": (7, 15)}
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_NOT_STRIPPABLE = frozenset({"uuid", "date", "date-time", "time", "duration", "decimal", "ipv4", "ipv6"})
_HARMLESS = frozenset({"to_lower", "to_upper", "unit", "strip_whitespace"})


def read_scalar(reader: Node, writer: Node) -> Gaps:
    """A text, number, boolean or null, against a reader that is no union and no enum."""
    if len(writer.types) != 1:
        return gap(Rule.TYPE_CHANGED, reader, writer)
    [kind] = writer.types
    form, written = reader.data.get("format"), writer.data.get("format")
    if kind in {"integer", "number"} and form == "decimal":
        return _number_into_decimal(reader, writer)
    if kind not in reader.types and not (kind == "integer" and "number" in reader.types):
        return gap(Rule.TYPE_CHANGED, reader, writer)
    if form is not None and form != written and written not in _NARROWER.get(form, ()):
        return gap(Rule.FORMAT_NARROWED, reader, writer)
    if kind == "number" and form is not None and reader.checks.get("unit") != writer.checks.get("unit"):
        return gap(Rule.FORMAT_NARROWED, reader, writer)
    rule = _text(reader, writer) if kind == "string" else _number(reader, writer)
    rule = rule or _checks(reader, writer, same_form=form == written)
    return gap(rule, reader, writer) if rule else ()


def tighter(reader: Node, writer: Node, least: str, most: str, given: tuple[int, float] = (0, float("inf"))) -> bool:
    """Whether the reader's limits of a size exclude something that the writer's allow."""
    low = max(writer.data.get(least, 0), given[0])
    high = min(writer.data.get(most, float("inf")), given[1])
    return bool(reader.data.get(least, 0) > low or reader.data.get(most, float("inf")) < high)


def _text(reader: Node, writer: Node) -> Rule | None:
    lengths = _LENGTHS.get(writer.data.get("format", ""), (0, float("inf")))
    measured = reader.data.get("minLength", 0) > 0 or "pattern" in reader.data
    blank = not writer.checks.get("strip_whitespace") and writer.data.get("format") not in _NOT_STRIPPABLE
    if measured and blank and reader.checks.get("strip_whitespace"):
        return Rule.CONSTRAINT_TIGHTENED
    if tighter(reader, writer, "minLength", "maxLength", lengths):
        return Rule.CONSTRAINT_TIGHTENED
    if "pattern" in reader.data and (
        reader.data["pattern"] != writer.data.get("pattern")
        or any(reader.checks.get(name) != writer.checks.get(name) for name in ("flags", "engine", "strip_whitespace"))
    ):
        return Rule.PATTERN_CHANGED
    return None


def _number(reader: Node, writer: Node) -> Rule | None:
    as_float = "integer" in writer.types and "integer" not in reader.types
    low = _bound(writer, _LOWER, max)
    high = _bound(writer, _UPPER, min)
    convert: Callable[[Any], Any] = float if as_float else lambda value: value
    low = None if low is None else (convert(low[0]), low[1] and not as_float)
    high = None if high is None else (convert(high[0]), high[1] and not as_float)
    if "integer" in writer.types and not as_float:
        low = None if low is None else (low[0] + low[1], False)
        high = None if high is None else (high[0] - high[1], False)
    data = reader.data
    excluded = (
        ("minimum" in data and (low is None or low[0] < data["minimum"]))
        or ("maximum" in data and (high is None or high[0] > data["maximum"]))
        or ("exclusiveMinimum" in data and not _beyond(low, data["exclusiveMinimum"], 1))
        or ("exclusiveMaximum" in data and not _beyond(high, data["exclusiveMaximum"], -1))
    )
    return Rule.CONSTRAINT_TIGHTENED if excluded or not _multiple(reader, writer) else None


def _beyond(bound: tuple[Any, bool] | None, limit: Any, sign: int) -> bool:
    return bound is not None and (sign * bound[0] > sign * limit or (bound[0] == limit and bound[1]))


def _bound(node: Node, names: tuple[str, str], narrower: Callable[..., Any]) -> tuple[Any, bool] | None:
    """The narrower of an inclusive and an exclusive limit, and whether it is the exclusive one."""
    inclusive, exclusive = (node.data.get(name) for name in names)
    if exclusive is not None and (inclusive is None or narrower(inclusive, exclusive) == exclusive):
        return exclusive, True
    return None if inclusive is None else (inclusive, False)


def _multiple(reader: Node, writer: Node) -> bool:
    wanted, given = reader.data.get("multipleOf"), writer.data.get("multipleOf")
    if wanted is None:
        return True
    if given is None:
        return bool(wanted == 1 and "integer" in writer.types and "integer" in reader.types)
    if writer.types == reader.types == {"integer"} and wanted == int(wanted) and given == int(given):
        return bool(given % wanted == 0)
    return bool(given == wanted and writer.types == reader.types)


def _number_into_decimal(reader: Node, writer: Node) -> Gaps:
    """JSON's numbers are read as decimals; the bounds of both are compared exactly, digits are not counted."""
    unknown = reader.checks.keys() - {"ge", "gt", "le", "lt"}
    low, high = _bound(writer, _LOWER, max), _bound(writer, _UPPER, min)
    stated = {"ge": low, "gt": low, "le": high, "lt": high}
    for name, bound in stated.items():
        if name in reader.checks and (
            bound is None or not _holds(name, Decimal(str(bound[0])), reader.checks[name], exclusive=bound[1])
        ):
            return gap(Rule.CONSTRAINT_TIGHTENED, reader, writer)
    return gap(Rule.CONSTRAINT_TIGHTENED, reader, writer) if unknown else ()


def _checks(reader: Node, writer: Node, *, same_form: bool) -> Rule | None:
    """What JSON Schema has no word for: the same as the writer's, or wider where widths can be compared."""
    for name, wanted in reader.checks.items():
        if name in _HARMLESS:
            continue
        given = writer.checks.get(name) if same_form else None
        if given == wanted:
            continue
        if name in {"ge", "gt", "le", "lt"} and same_form and _bound_holds(reader, writer, name):
            continue
        if name in {"max_digits", "decimal_places"} and _digits_fit(reader, writer):
            continue
        return Rule.FORMAT_NARROWED if name in {"version", "allowed_schemes"} else Rule.CONSTRAINT_TIGHTENED
    return None


def _bound_holds(reader: Node, writer: Node, name: str) -> bool:
    inclusive, exclusive = ("ge", "gt") if name in {"ge", "gt"} else ("le", "lt")
    return any(
        bound in writer.checks and _holds(name, writer.checks[bound], reader.checks[name], exclusive=bound == exclusive)
        for bound in (inclusive, exclusive)
    )


def _holds(name: str, given: Any, wanted: Any, *, exclusive: bool) -> bool:
    """Whether all beyond `given` is beyond `wanted`; both are numbers, decimals as text, or moments as text."""
    first, second = _comparable(given), _comparable(wanted)
    if type(first) is not type(second) or isinstance(first, Mapping):
        return False
    if first == second:
        return exclusive or name in {"ge", "le"}
    return bool(first > second if name in {"ge", "gt"} else first < second)


def _comparable(value: Any) -> Any:
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return value


def _digits_fit(reader: Node, writer: Node) -> bool:
    digits, places = writer.checks.get("max_digits"), writer.checks.get("decimal_places")
    most, most_places = reader.checks.get("max_digits"), reader.checks.get("decimal_places")
    if most_places is not None and (places if places is not None else digits or float("inf")) > most_places:
        return False
    if most is None:
        return True
    if digits is None or digits > most:
        return False
    whole = digits - (places or 0)
    return most_places is None or whole <= most - most_places
