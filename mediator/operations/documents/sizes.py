"""How large an event is on the wire: the bytes of its JSON body, without headers and without the broker's own.

    size_of(OrderPlacedV1)      Size(bytes=221, smallest=…, largest=None, notes=("sku: a text without …",))

Names, punctuation, UUIDs, dates and whatever has one form only are counted exactly. For everything else an estimate is
all that the contract allows, and a note says what was assumed, so that whoever plans capacity knows which numbers to
replace by their own. `smallest` and `largest` are no estimates: no event that is published lies outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from contracts import IntegrationEvent
from mediator.messaging.envelope import LONGEST_TEXT
from mediator.operations.documents.shapes import Kind, Shape, in_json, shape_of

__all__ = ["Size", "size_of"]

_ASSUMED_TEXT = 20
_ASSUMED_ELEMENTS = 3
_MOST_OF_A_CHARACTER = 6
_NULL = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of an event's JSON."""

    bytes: int
    """The estimate."""
    smallest: int
    largest: int | None
    """None when the contract sets no limit."""
    notes: tuple[str, ...] = ()
    """What is not exact, and what was assumed."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What one kind of value may take; quotes included."""

    usual: int
    smallest: int
    largest: int | None
    note: str


_OF_EVERY_EVENT: Mapping[str, _Form] = {
    "occurred_on": _Form(29, 22, 29, "29 bytes, and 22 when it falls on a full second"),
    # Whatever is published has one; null it is in no event on the wire.
    "correlation_id": _Form(38, 3, 2 + 4 * LONGEST_TEXT, "38 bytes assumed: a UUID, as a request without one gets"),
}
_FORMS: Mapping[Kind, _Form] = {
    "uuid": _Form(38, 38, 38, ""),
    "date": _Form(12, 12, 12, ""),
    "null": _Form(4, 4, 4, ""),
    "moment": _Form(29, 22, 34, "29 bytes assumed: a moment in UTC, with microseconds"),
    "time": _Form(10, 10, 23, "10 bytes assumed: a time of day without fractions of a second"),
    "duration": _Form(10, 5, 33, "10 bytes assumed: a duration of some hours"),
    "boolean": _Form(5, 4, 5, "true has 4 bytes, false 5"),
    "integer": _Form(4, 1, None, "4 digits assumed: a whole number without limits on both sides"),
    "number": _Form(8, 3, 24, "8 digits assumed"),
    "decimal": _Form(9, 3, None, "9 bytes assumed: a decimal number such as 1234.50, as text"),
    "unknown": _Form(20, 1, None, "20 bytes assumed: the contract does not say what it is"),
}


def size_of(event_class: type[IntegrationEvent]) -> Size:
    """The size of the event's body."""
    size = _object(shape_of(event_class), "")
    return Size(size.bytes, size.smallest, size.largest, tuple(dict.fromkeys(size.notes)))


def _value(shape: Shape, path: str) -> Size:
    if shape.recurs:
        size = Size(2, 1, None, (f"{path}: counted as empty, for it may hold itself, to any depth",))
    else:
        size = (_plain if path in _OF_EVERY_EVENT else _SIZES.get(shape.kind, _plain))(shape, path)
    if not shape.nullable or path in _OF_EVERY_EVENT:
        return size
    note = f"{path}: may be null, which has {_NULL} bytes; counted as if it were there"
    largest = None if size.largest is None else max(size.largest, _NULL)
    return Size(size.bytes, min(size.smallest, _NULL), largest, (note, *size.notes))


def _object(shape: Shape, path: str) -> Size:
    parts = [
        _Part(_length(name) + 1, _value(member, f"{path}.{name}" if path else name)) for name, member in shape.members
    ]
    return _together(parts)


def _tuple(shape: Shape, path: str) -> Size:
    return _together([_Part(0, _value(part, f"{path}[{at}]")) for at, part in enumerate(shape.parts)])


def _choice(shape: Shape, path: str) -> Size:
    sizes = [_value(part, path) for part in shape.parts]
    largest = max(sizes, key=lambda size: size.bytes)
    note = f"{path}: counted as the largest of {len(sizes)} alternatives"
    limits = [size.largest for size in sizes if size.largest is not None]
    return Size(
        largest.bytes,
        min(size.smallest for size in sizes),
        max(limits) if len(limits) == len(sizes) else None,
        (note, *largest.notes),
    )


def _values(shape: Shape, path: str) -> Size:
    lengths = [len(in_json(value).encode()) for value in shape.values]
    note = () if min(lengths) == max(lengths) else (f"{path}: counted as its longest value",)
    return Size(max(lengths), min(lengths), max(lengths), note)


def _list(shape: Shape, path: str) -> Size:
    return _repeated(shape, path, _value(shape.parts[0], f"{path}[]"), ("minItems", "maxItems", "elements"))


def _map(shape: Shape, path: str) -> Size:
    note = f"{path}: its keys, at {_ASSUMED_TEXT} bytes each"
    value = _value(shape.parts[0], f"{path}{{}}")
    entry = Size(value.bytes + _ASSUMED_TEXT + 3, value.smallest + 3, None, (note, *value.notes))
    return _repeated(shape, path, entry, ("minProperties", "maxProperties", "entries"))


def _repeated(shape: Shape, path: str, one: Size, names: tuple[str, str, str]) -> Size:
    fewest, most = shape.node.get(names[0], 0), shape.node.get(names[1])
    usual = _between(_ASSUMED_ELEMENTS, fewest, most)
    unlimited = "" if most is not None else ", and there is no limit"
    note = () if fewest == most else (f"{path}: {usual} {names[2]} assumed{unlimited}",)

    def times(count: int, size: int) -> int:
        return 2 + count * size + max(0, count - 1)

    largest = None if most is None or (most and one.largest is None) else times(most, one.largest or 0)
    return Size(times(usual, one.bytes), times(fewest, one.smallest), largest, (*note, *(one.notes if usual else ())))


def _text(shape: Shape, path: str) -> Size:
    fewest, most = shape.node.get("minLength", 0), shape.node.get("maxLength")
    usual = _between(_ASSUMED_TEXT if most is None else min(_ASSUMED_TEXT, ceil(most / 2)), fewest, most)
    limit = "without a limit" if most is None else f"of up to {most} characters"
    note = f"{path}: a text {limit}, {usual} bytes assumed; a character that is not ASCII takes 2 to 4"
    largest = None if most is None else 2 + most * _MOST_OF_A_CHARACTER
    return Size(2 + usual, 2 + fewest, largest, (note,))


def _integer(shape: Shape, path: str) -> Size:
    node = shape.node
    low = node.get("minimum", node["exclusiveMinimum"] + 1 if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node["exclusiveMaximum"] - 1 if "exclusiveMaximum" in node else None)
    if low is None or high is None:
        return _plain(shape, path)
    longest = max(len(str(int(low))), len(str(int(high))))
    shortest = 1 if low <= 0 <= high else min(len(str(int(low))), len(str(int(high))))
    note = () if shortest == longest else (f"{path}: counted with the {longest} digits of its limits",)
    return Size(longest, shortest, longest, note)


def _plain(shape: Shape, path: str) -> Size:
    form = _OF_EVERY_EVENT.get(path) or _FORMS[shape.kind]
    return Size(form.usual, form.smallest, form.largest, (f"{path}: {form.note}",) if form.note else ())


@dataclass(frozen=True, slots=True)
class _Part:
    name: int
    size: Size


def _together(parts: list[_Part]) -> Size:
    """In brackets, with commas between them."""
    fixed = 2 + sum(part.name for part in parts) + max(0, len(parts) - 1)
    largest = [part.size.largest for part in parts if part.size.largest is not None]
    return Size(
        fixed + sum(part.size.bytes for part in parts),
        fixed + sum(part.size.smallest for part in parts),
        fixed + sum(largest) if len(largest) == len(parts) else None,
        tuple(note for part in parts for note in part.size.notes),
    )


def _between(usual: int, fewest: int, most: int | None) -> int:
    return max(fewest, usual if most is None else min(usual, most))


def _length(name: str) -> int:
    return len(in_json(name).encode())


_SIZES: Mapping[Kind, Callable[[Shape, str], Size]] = {
    "object": _object,
    "tuple": _tuple,
    "choice": _choice,
    "values": _values,
    "list": _list,
    "map": _map,
    "text": _text,
    "integer": _integer,
}
