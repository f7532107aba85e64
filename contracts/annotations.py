"""Reading annotations: what is left of a type when its wrappings are taken off.

    peel(Annotated[UUID, PartitionKey()])   → UUID, (PartitionKey(order=0),)
    peel(NewType("Sku", str))               → str, ()

`Annotated`, `NewType` and `type` aliases may wrap each other in any order.
"""

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

__all__ = ["is_alias", "peel"]


def peel(annotation: Any) -> tuple[Any, tuple[object, ...]]:
    """Return the bare type and the metadata that was wrapped around it, innermost last."""
    metadata: tuple[object, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *extra = get_args(annotation)
            metadata = (*metadata, *_flat(extra))
        elif _is_plain_alias(annotation):
            annotation = annotation.__value__
        elif is_alias(annotation):
            annotation = get_origin(annotation).__value__[get_args(annotation)]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation, metadata


def is_alias(annotation: Any) -> bool:
    """Tell whether this is a `type` alias, which may refer to itself."""
    return _is_plain_alias(annotation) or _is_plain_alias(get_origin(annotation))


def _is_plain_alias(annotation: Any) -> bool:
    # By name: typing has TypeAliasType from 3.12 on, and typing_extensions has one of its own.
    return type(annotation).__name__ == "TypeAliasType"


def _flat(metadata: Iterable[object]) -> Iterable[object]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item
