"""Masking: an event's data as people may see it, with everything that is sensitive replaced.

    masked(event, CustomerMovedV1)   # {"event_id": "…", "customer_id": "…", "email": "***", …}
    masked(data, CustomerMovedV1)    # the same from JSON that was read, whether it fits the contract or not

Data that does not fit is masked with the doubt on the safe side: where a model with a sensitive field should stand and
something else does, all of it is hidden. Fields that the contract does not know are shown, for nobody has marked them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from contracts.annotations import alternatives, complete, elements, is_model, values
from contracts.events import IntegrationEvent
from contracts.sensitive import hides, is_sensitive

__all__ = ["MASK", "is_hidden", "masked", "names_in_json", "visible_location"]

MASK = "***"
_Kind: TypeAlias = tuple[Any, tuple[object, ...]]


def masked(event: Any, event_class: type[IntegrationEvent]) -> Any:
    """The event, or its data as JSON has it, with `***` in place of each sensitive value."""
    data = event.model_dump(mode="json") if isinstance(event, BaseModel) else event
    return _masked(data, [(event_class, ())])


def visible_location(location: Sequence[str | int], event_class: type[IntegrationEvent]) -> tuple[str | int, ...]:
    """A place in the data, cut off where it enters something sensitive: what follows may be a value, such as a key."""
    kinds: list[_Kind] = [(event_class, ())]
    for depth, step in enumerate(location):
        if _is_hidden(kinds):
            return tuple(location[:depth])
        below = list(_element_kinds(kinds) if isinstance(step, int) else _member_kinds(kinds, step))
        # A step that leads nowhere is pydantic's name for one of several types: it stays at the same value.
        kinds = below or kinds
    return tuple(location)


def is_hidden(location: Sequence[str | int], event_class: type[IntegrationEvent]) -> bool:
    """Whether the value at this place is sensitive, or part of something that is."""
    kinds: list[_Kind] = [(event_class, ())]
    for step in location:
        kinds = list(_element_kinds(kinds) if isinstance(step, int) else _member_kinds(kinds, step)) or kinds
        if _is_hidden(kinds):
            return True
    return False


def _masked(value: Any, given: Iterable[_Kind]) -> Any:
    kinds = list(_unwrapped(given))
    if _is_hidden(kinds):
        return MASK
    if isinstance(value, dict) and any(is_model(bare) or values(bare) for bare, _ in kinds):
        return {name: _masked(item, _member_kinds(kinds, name)) for name, item in value.items()}
    if isinstance(value, list) and any(elements(bare) for bare, _ in kinds):
        inner = list(_element_kinds(kinds))
        return [_masked(item, inner) for item in value]
    fits = not isinstance(value, dict | list) and any(_is_plain(bare) for bare, _ in kinds)
    return value if value is None or fits or not any(hides(bare) for bare, _ in kinds) else MASK


def _unwrapped(kinds: Iterable[_Kind]) -> Iterator[_Kind]:
    """Each alternative for itself, and what a root model stands for in place of it."""
    for annotation, marks in kinds:
        for bare, inner in alternatives(annotation, marks):
            if is_model(bare) and bare.__pydantic_root_model__:
                complete(bare)
                root = bare.model_fields["root"]
                yield from _unwrapped([(root.annotation, (*inner, *root.metadata))])
            else:
                yield bare, inner


def _is_hidden(kinds: Iterable[_Kind]) -> bool:
    return any(is_sensitive(mark) for _, marks in _unwrapped(kinds) for mark in marks)


def _is_plain(bare: Any) -> bool:
    return bare not in (None, type(None)) and not (is_model(bare) or values(bare) or elements(bare))


def _member_kinds(kinds: Iterable[_Kind], name: str) -> Iterator[_Kind]:
    for bare, _ in _unwrapped(kinds):
        yield from ((inner, ()) for inner in values(bare))
        if is_model(bare):
            complete(bare)
            for field, info in bare.model_fields.items():
                if name in names_in_json(field, info):
                    yield info.annotation, tuple(info.metadata)
            for field, computed in bare.model_computed_fields.items():
                if name in (field, computed.alias):
                    yield computed.return_type, ()


def _element_kinds(kinds: Iterable[_Kind]) -> Iterator[_Kind]:
    for bare, _ in _unwrapped(kinds):
        yield from ((inner, ()) for inner in elements(bare))


def names_in_json(field: str, info: FieldInfo) -> frozenset[str]:
    """What a field may be called where its model is read or written; of a path the part that stands in the model."""
    found = {field, info.alias, info.serialization_alias}
    validation = info.validation_alias
    choices = validation.choices if isinstance(validation, AliasChoices) else [validation]
    found.update(str(one.path[0]) if isinstance(one, AliasPath) else one for one in choices)
    return frozenset(name for name in found if name is not None)
