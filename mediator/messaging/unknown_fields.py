"""Unknown fields: what a newer publisher sends and an older reader ignores, counted so that drift is seen.

    UnknownFields().count(event, {"order_id": 1, "lines": [{"sku": "a", "colour": "red"}]})   # 1

Nobody is harmed by them, but a reader that ignores a hundred a minute wants its contracts package updated. It is asked
for every event that arrives, so a model without models inside costs one comparison of names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, RootModel

from contracts.annotations import alternatives, elements, is_model, values
from contracts.masking import names_in_json

__all__ = ["UnknownFields"]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a model is called in JSON, as far as it has to be looked at."""

    names: frozenset[str]
    """Of all its fields."""
    inner: tuple[tuple[str, frozenset[str]], ...]
    """The fields that may hold models, with their names."""
    is_root: bool


class UnknownFields:
    """Looks for them, and keeps what it has learnt of each model."""

    def __init__(self) -> None:
        self._shapes: dict[type[BaseModel], _Shape] = {}

    def count(self, value: Any, data: Any) -> int:
        """How many members of `data` no model knows; `value` is what was read from it."""
        # By its class: to ask pydantic's metaclass whether something is a model costs more than the comparison.
        shape = self._shapes.get(type(value))
        if shape is None and isinstance(value, BaseModel):
            shape = self._shapes[type(value)] = _shape_of(type(value))
        if shape is None:
            return self._in_container(value, data)
        if shape.is_root:
            return self.count(value.root, data)
        if type(data) is not dict:
            return 0
        count = 0 if shape.names.issuperset(data) else len(data.keys() - shape.names)
        for field, names in shape.inner:
            for name in names:
                if name in data:
                    count += self.count(getattr(value, field), data[name])
                    break
        return count

    def _in_container(self, value: Any, data: Any) -> int:
        if isinstance(value, (list, tuple)):
            return sum(map(self.count, value, data)) if type(data) is list and len(data) == len(value) else 0
        if isinstance(value, Mapping) and type(data) is dict:
            return sum(self.count(item, data.get(name)) for name, item in value.items())
        return 0


def _shape_of(model: type[BaseModel]) -> _Shape:
    names = {field: names_in_json(field, info) for field, info in model.model_fields.items()}
    computed = {name for field, info in model.model_computed_fields.items() for name in (field, info.alias) if name}
    inner = ((field, names[field]) for field, info in model.model_fields.items() if _may_hold_models(info.annotation))
    return _Shape(frozenset(computed.union(*names.values())), tuple(inner), issubclass(model, RootModel))


def _may_hold_models(annotation: Any, above: tuple[Any, ...] = ()) -> bool:
    if annotation in above:
        return False
    return any(
        is_model(bare) or any(_may_hold_models(one, (*above, annotation)) for one in (*elements(bare), *values(bare)))
        for bare, _ in alternatives(annotation)
    )
