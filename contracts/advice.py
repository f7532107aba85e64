"""Advice: what works in a contract, and what its author will regret. It is a warning, never a refusal.

    ContractWarning: shop.OrderPlacedV1, at lines: a list can be changed in an event that is frozen; write tuple[…, ...]

A handler that appends to an event's list changes what the next handler in the process is given. Two models in a union
without a discriminator are told apart by trying, so a field that is added to one may turn it into the other. A model
that writes a field under one name and reads it under another loses it. What is nested deeper than five models is a
document, not an event. Each is told once, when the class is defined.

    warnings.filterwarnings("ignore", category=ContractWarning)   # or "error", in a contracts package's own tests
"""

import sys
import warnings
from collections.abc import Iterator
from typing import Any, get_origin

from pydantic import AliasChoices, BaseModel, Discriminator
from pydantic.fields import FieldInfo

from contracts.annotations import MAPPINGS, alternatives, complete, elements, is_alias, is_model, values

__all__ = ["ContractWarning", "advice", "warn"]

_DEEPEST = 5
_CHANGEABLE = {list: "tuple[…, ...]", set: "frozenset[…]"}
_OURS = ("contracts", "pydantic")


class ContractWarning(UserWarning):
    """A contract that works, and that its author will regret."""


def warn(event_class: type[BaseModel]) -> None:
    """Warn of everything that `advice` finds, at the line that defines or uses the class."""
    where = f"{event_class.__module__}.{event_class.__qualname__}"
    for path, text in advice(event_class):
        warnings.warn(f"{where}, at {path}: {text}", ContractWarning, stacklevel=_level())


def advice(event_class: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    """What an author should think about, each with its path."""
    return tuple(dict.fromkeys(_Look().at_model(event_class, "", 0)))


def _level() -> int:
    level, frame = 2, sys._getframe(2)  # noqa: SLF001 - the standard library's own way before 3.12
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    return level


class _Look:
    """Looks at every type that an event is made of."""

    def __init__(self) -> None:
        self._depths: dict[type[BaseModel], int] = {}
        self._above: list[Any] = []

    def at_model(self, model: type[BaseModel], path: str, depth: int) -> Iterator[tuple[str, str]]:
        # Again only where it stands deeper: what is within it may be too deep there.
        known = self._depths.get(model)
        if model in self._above or (known is not None and known >= depth):
            return
        self._depths[model] = depth
        if depth > _DEEPEST:
            yield path, f"it stands {depth} models deep; send what readers need, or a reference to the document"
            return
        complete(model)
        self._above.append(model)
        for name, field in model.model_fields.items():
            here = f"{path}.{name}" if path else name
            found = (*_lost_names(model, name, here), *self._at_field(field, here, depth))
            yield from found if known is None else (one for one in found if "models deep" in one[1])
        self._above.pop()

    def _at_field(self, field: FieldInfo, path: str, depth: int) -> Iterator[tuple[str, str]]:
        marks = (Discriminator("field"),) if field.discriminator is not None else ()
        yield from self._at_type(field.annotation, marks, path, depth)
        made = field.default_factory if field.default_factory in (list, set, dict) else type(field.default)
        kinds = [get_origin(bare) for bare, _ in alternatives(field.annotation)]
        # A list or set is warned of as such, and a mapping has no other default; pydantic copies them.
        if made in (list, set, dict) and made not in kinds and not (made is dict and MAPPINGS.intersection(kinds)):
            yield path, f"its default is a {made.__name__}, which can be changed; write one that cannot, such as ()"

    def _at_type(self, annotation: Any, marks: tuple[object, ...], path: str, depth: int) -> Iterator[tuple[str, str]]:
        # An alias may refer to itself; a model is entered, and left, by `at_model`.
        if alias := is_alias(annotation):
            if annotation in self._above:
                return
            self._above.append(annotation)
        found = list(alternatives(annotation, marks))
        models = [bare for bare, around in found if is_model(bare) and not _is_discriminated(around)]
        if len(models) > 1:
            names = " and ".join(model.__name__ for model in models)
            yield path, f"{names} are told apart by trying; give them a literal field and Field(discriminator=…)"
        for bare, _ in found:
            if (kind := get_origin(bare)) in _CHANGEABLE:
                yield path, f"a {kind.__name__} can be changed in an event that is frozen; write {_CHANGEABLE[kind]}"
            if is_model(bare):
                yield from self.at_model(bare, path, depth + 1)
            for inner in elements(bare):
                yield from self._at_type(inner, (), f"{path}[]", depth)
            for inner in values(bare):
                yield from self._at_type(inner, (), f"{path}{{}}", depth)
        if alias:
            self._above.pop()


def _lost_names(model: type[BaseModel], name: str, path: str) -> Iterator[tuple[str, str]]:
    """A nested model does not inherit the event's configuration: by default it writes names and reads aliases."""
    field, config = model.model_fields[name], model.model_config
    written = (field.serialization_alias or name) if config.get("serialize_by_alias") else name
    by_alias = config.get("validate_by_alias", True)
    by_name = config.get("validate_by_name") or config.get("populate_by_name") or not by_alias
    alias = field.validation_alias if by_alias else None
    aliases = alias.choices if isinstance(alias, AliasChoices) else [alias]
    read = [name] if by_name or alias is None else []
    read += [one for one in aliases if isinstance(one, str)]
    if read and written not in read:
        names = " or ".join(map(repr, read))
        config_fix = "set serialize_by_alias=True and validate_by_name=True"
        yield path, f"it is written as {written!r} and read as {names}; {config_fix} in {model.__name__}'s model_config"


def _is_discriminated(marks: tuple[object, ...]) -> bool:
    return any(isinstance(mark, Discriminator) for mark in marks)
