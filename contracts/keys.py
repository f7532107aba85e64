"""Partition keys: events with the same key keep their order.

    class OrderPlacedV1(IntegrationEvent):
        tenant: Annotated[str, PartitionKey(0)]
        order_id: Annotated[UUID, PartitionKey(1)]

    partition_key_of(event)   # "acme|0198c5b4-…"

What cannot work is refused when the class is defined: two fields with one order, a type whose values have no canonical
text, a mark where it would be overlooked. A key that is silently missing looks like a bug in the broker, weeks later.
"""

import types
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, FutureDate, PastDate

from contracts.annotations import peel
from contracts.canonical import CANONICAL_TYPES, canonical_value, join_key
from contracts.errors import PartitionKeyError
from contracts.sensitive import hides, is_sensitive

if TYPE_CHECKING:
    from contracts.events import IntegrationEvent

__all__ = ["PartitionKey", "is_mark", "key_fields", "partition_key_of"]

_KEY_TYPES: frozenset[Any] = frozenset({*CANONICAL_TYPES, AwareDatetime, PastDate, FutureDate})


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """Marks a field as the partition key, or as its part number `order`."""

    order: int = 0


def is_mark(metadata: object) -> bool:
    """Tell whether an author meant to mark a partition key, brackets or not."""
    return isinstance(metadata, PartitionKey) or metadata is PartitionKey


def key_fields(event_class: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields that form the key, in their order."""
    fields: dict[int, str] = {}
    for name, field in event_class.model_fields.items():
        mark = _mark(field.metadata, where := f"{event_class.__module__}.{event_class.__qualname__}.{name}")
        if mark is None:
            continue
        if mark.order in fields:
            other = fields[mark.order]
            raise PartitionKeyError(
                where, f"it has the order {mark.order}, and so has {other}", "give each key field an order of its own"
            )
        if any(map(is_sensitive, field.metadata)) or hides(field.annotation):
            raise PartitionKeyError(
                where,
                "its value is sensitive, and a key stands in headers, tables and reports",
                "use an id that tells nothing",
            )
        if not _has_canonical_form(field.annotation):
            raise PartitionKeyError(
                where,
                f"{field.annotation} cannot be a partition key",
                "use str, int, bool, UUID, Decimal, AwareDatetime, date, or an Enum, Literal or union of these",
            )
        fields[mark.order] = name
    return tuple(fields[order] for order in sorted(fields))


def partition_key_of(event: "IntegrationEvent") -> str | None:
    """Return the event's partition key, or None when its class marks no field."""
    event_class = type(event)
    names = event_class.__partition_key_fields__
    if not names:
        return None
    return join_key(canonical_value(getattr(event, name), f"{event_class.__qualname__}.{name}") for name in names)


def _mark(metadata: Iterable[object], where: str) -> PartitionKey | None:
    marks = [item for item in metadata if is_mark(item)]
    if not marks:
        return None
    mark, *others = marks
    if others or not isinstance(mark, PartitionKey):
        raise PartitionKeyError(where, "it is not marked with exactly one PartitionKey(…)", "write PartitionKey() once")
    return mark


def _has_canonical_form(annotation: Any) -> bool:
    annotation, _ = peel(annotation)
    origin = get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        return all(map(_has_canonical_form, get_args(annotation)))
    if origin is Literal:
        return all(isinstance(value, (*CANONICAL_TYPES, Enum)) for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return all(isinstance(member.value, CANONICAL_TYPES) for member in annotation)
    return annotation is None or annotation in _KEY_TYPES
