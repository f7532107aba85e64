"""Reading annotations: what is left of a type when its wrappings are taken off.

    peel(Annotated[UUID, PartitionKey()])   → UUID, (PartitionKey(order=0),)
    peel(NewType("Sku", str))               → str, ()
    list(alternatives(Sku | None))          → [(str, ()), (NoneType, ())]
    elements(tuple[int, str])               → (int, str)
    values(dict[str, int])                  → (int,)

`Annotated`, `NewType` and `type` aliases may wrap each other in any order.
"""

import collections.abc
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, Discriminator
from pydantic.fields import FieldInfo

__all__ = ["ELEMENTS", "MAPPINGS", "alternatives", "complete", "elements", "is_alias", "is_model", "peel", "values"]

ELEMENTS: frozenset[Any] = frozenset({list, set, frozenset, tuple})
MAPPINGS: frozenset[Any] = frozenset({dict, collections.abc.Mapping})


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


def alternatives(annotation: Any, metadata: tuple[object, ...] = ()) -> Iterator[tuple[Any, tuple[object, ...]]]:
    """The bare types that a value may have, each with all that was wrapped around it."""
    bare, inner = peel(annotation)
    if get_origin(bare) in (types.UnionType, typing.Union):
        for argument in get_args(bare):
            yield from alternatives(argument, (*metadata, *inner))
    else:
        yield bare, (*metadata, *inner)


def elements(bare: Any) -> tuple[Any, ...]:
    """What a sequence or set is made of; nothing for any other type."""
    found = get_args(bare) if get_origin(bare) in ELEMENTS else ()
    return tuple(argument for argument in found if argument is not Ellipsis)


def values(bare: Any) -> tuple[Any, ...]:
    """What a mapping leads to; nothing for any other type."""
    return get_args(bare)[1:] if get_origin(bare) in MAPPINGS else ()


def is_model(bare: Any) -> TypeGuard[type[BaseModel]]:
    """Tell whether this is a pydantic model; a generic one counts as soon as it is given its types."""
    return isinstance(bare, type) and get_origin(bare) is None and issubclass(bare, BaseModel)


def complete(model: type[BaseModel]) -> None:
    """Follow forward references as far as they can be followed by now."""
    if not model.__pydantic_fields_complete__:
        model.model_rebuild(raise_errors=False)


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
            if item.discriminator is not None:
                yield Discriminator("field")
        else:
            yield item
