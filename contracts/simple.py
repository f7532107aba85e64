"""Simple objects only: an integration event carries plain values, and nothing that belongs to its publisher.

    class OrderPlacedV1(IntegrationEvent):
        lines: list[OrderLine]

    NotSimpleError: shop.OrderPlacedV1, at lines[].product.meta: Any says nothing to a reader; name the type

An event is read in another process, by another version of the code, perhaps in another language, years later. An
entity drags its table into that promise; `Any` promises nothing; a naive datetime means another moment elsewhere; NaN
turns into null in JSON. Each is found when the class is defined, not when the first reader fails.

The path: `lines[]` is an element of `lines`, `prices{}` a value of the mapping `prices`, `prices{key}` its key.
"""

import collections.abc
import dataclasses
import types
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ForwardRef, Literal, TypeVar, get_args, get_origin, is_typeddict
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    FutureDate,
    FutureDatetime,
    Json,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    SkipValidation,
)

from contracts.annotations import ELEMENTS, MAPPINGS, is_alias, peel
from contracts.errors import NotSimpleError, PartitionKeyError, UnresolvedTypeError
from contracts.keys import is_mark
from contracts.open_enum import OpenEnum
from contracts.sensitive import Sensitive, is_sensitive

__all__ = ["check_simple"]

_VALUES: frozenset[Any] = frozenset(
    {str, int, bool, None, type(None), UUID, AwareDatetime, date, PastDate, FutureDate, time, timedelta}
)
_BYPASSES: tuple[Any, ...] = (Json, SkipValidation)
_CONTAINERS = ELEMENTS | MAPPINGS
_ADDRESS_MODULES = frozenset({"pydantic.networks", "ipaddress"})
_NAIVE: frozenset[Any] = frozenset({datetime, NaiveDatetime, PastDatetime, FutureDatetime})


def check_simple(event_class: type[BaseModel]) -> None:
    """Raise NotSimpleError for the first field that carries more than plain values.

    It runs by itself when an event class is defined. A forward reference postpones it until the class is first used; a
    host calls this to know earlier.
    """
    if not event_class.__pydantic_fields_complete__:
        event_class.model_rebuild(raise_errors=False)
    _Walk(event_class).visit_model(event_class, "")


class _Walk:
    """Visits every type that a model is made of, once."""

    def __init__(self, root: type[BaseModel]) -> None:
        self._root = root
        self._where = f"{root.__module__}.{root.__qualname__}"
        self._seen: set[Any] = set()

    def visit_model(self, model: type[BaseModel], path: str) -> None:
        if model in self._seen:
            return
        self._seen.add(model)
        if hasattr(model, "__table__") or hasattr(model, "__mapper__"):
            raise self._fault(
                path, f"{model.__name__} is an entity", "events carry values, not entities: copy what readers need"
            )
        if model.model_config.get("extra") == "allow":
            raise self._fault(path, f"{model.__name__} takes any extra field", 'remove extra="allow", name the fields')
        if not model.__pydantic_fields_complete__ and model is not self._root:
            model.model_rebuild(raise_errors=False)
        for name, field in model.model_fields.items():
            here = f"{path}.{name}" if path else name
            if path and any(map(is_mark, field.metadata)) and not hasattr(model, "__partition_key_fields__"):
                raise self._misplaced(here)
            self._visit(field.annotation, here, model, tuple(field.metadata))

    def _visit(self, annotation: Any, path: str, owner: type[BaseModel], metadata: tuple[object, ...] = ()) -> None:
        if is_alias(annotation):
            if annotation in self._seen:
                return
            self._seen.add(annotation)
        bare, inner = peel(annotation)
        if any(map(is_mark, inner)):
            raise self._misplaced(path)
        if any(type(item) in _BYPASSES or item in _BYPASSES for item in (*metadata, *inner)):
            raise self._fault(path, "what validation takes is not what JSON carries", "annotate the plain type alone")
        if any(item is Sensitive for item in (*metadata, *inner)):
            raise self._fault(path, "this Sensitive has no brackets", "write Sensitive()")
        match get_origin(bare):
            case types.UnionType | typing.Union:
                for argument in get_args(bare):
                    self._visit(argument, path, owner, metadata)
            case typing.Literal:
                self._visit_literal(get_args(bare), path)
            case origin if origin in _CONTAINERS:
                self._visit_container(bare, path, owner)
            case _:
                self._visit_class(bare, path, owner, (*metadata, *inner))

    def _visit_container(self, bare: Any, path: str, owner: type[BaseModel]) -> None:
        arguments = get_args(bare)
        if not arguments and bare != tuple[()]:
            raise self._fault(path, *_why(get_origin(bare)))
        if get_origin(bare) in MAPPINGS:
            self._visit_key(arguments[0], f"{path}{{key}}")
            self._visit(arguments[1], f"{path}{{}}", owner)
            return
        for argument in arguments:
            if argument is not Ellipsis:
                self._visit(argument, f"{path}[]", owner)

    def _visit_class(self, bare: Any, path: str, owner: type[BaseModel], metadata: tuple[object, ...]) -> None:
        if bare is float or bare is Decimal:
            self._require_finite(bare, path, owner, metadata)
        elif isinstance(bare, type) and issubclass(bare, BaseModel):
            self.visit_model(bare, path)
        elif isinstance(bare, type) and issubclass(bare, Enum):
            self._visit_enum(bare, path)
        elif bare not in _VALUES and getattr(bare, "__module__", "") not in _ADDRESS_MODULES:
            raise self._refusal(bare, path)

    def _visit_literal(self, values: tuple[object, ...], path: str) -> None:
        for value in values:
            if not isinstance(value, str | int | Enum | None):
                raise self._fault(path, f"the literal {value!r} is not a plain value", "use str, int, bool or None")
            if isinstance(value, OpenEnum):
                raise self._fault(
                    path, f"a literal of {type(value).__name__} is closed", "use the enum, or text literals"
                )
            if isinstance(value, Enum):
                self._visit_enum(type(value), path)

    def _visit_enum(self, enum: type[Enum], path: str) -> None:
        for member in enum:
            if not isinstance(member.value, str | int):
                raise self._fault(
                    path, f"{member} has the value {member.value!r}", "give enum members str or int values"
                )

    def _visit_key(self, annotation: Any, path: str) -> None:
        bare, inner = peel(annotation)
        if any(map(is_mark, inner)):
            raise self._misplaced(path)
        if any(map(is_sensitive, inner)):
            raise self._fault(path, "a key cannot be masked", "mark the whole mapping: Annotated[dict[…], Sensitive()]")
        if not _is_text(bare):
            raise self._fault(path, f"{_name(bare)} cannot be a key in JSON", "use str keys, or a list of models")

    def _require_finite(self, number: type, path: str, owner: type[BaseModel], metadata: tuple[object, ...]) -> None:
        # A nested model does not inherit the event's configuration. By default a float may be NaN, and a Decimal not.
        allowed = owner.model_config.get("allow_inf_nan", number is float)
        for item in metadata:
            allowed = getattr(item, "allow_inf_nan", allowed)
        if allowed:
            raise self._fault(
                path,
                f"{number.__name__} may be NaN or infinite in {owner.__name__}, and JSON knows neither",
                f"set allow_inf_nan=False in {owner.__name__}'s model_config, or use pydantic.FiniteFloat",
            )

    def _refusal(self, bare: Any, path: str) -> NotSimpleError:
        if isinstance(bare, ForwardRef | str):
            name = bare if isinstance(bare, str) else bare.__forward_arg__
            return UnresolvedTypeError(
                self._where,
                path,
                f"{name!r} is not defined yet",
                "define it, then call model_rebuild() on the models that use it",
            )
        return self._fault(path, *_why(bare))

    def _fault(self, path: str, problem: str, advice: str) -> NotSimpleError:
        return NotSimpleError(self._where, path or "the class itself", problem, advice)

    def _misplaced(self, path: str) -> PartitionKeyError:
        return PartitionKeyError(
            f"{self._where}, at {path}",
            "this PartitionKey would be overlooked",
            "mark a field of the event itself, outermost: Annotated[UUID | None, PartitionKey()]",
        )


def _is_text(bare: Any) -> bool:
    if get_origin(bare) is Literal:
        return all(isinstance(value, str) for value in get_args(bare))
    if isinstance(bare, type) and issubclass(bare, Enum):
        return all(isinstance(member.value, str) for member in bare)
    return bare is str


def _why(bare: Any) -> tuple[str, str]:  # noqa: PLR0911 - one line for each reason
    name = _name(bare)
    if bare is Any or bare is object:
        return f"{name} says nothing to a reader", "name the type"
    if isinstance(bare, TypeVar):
        return f"the type variable {name} is open", "give it a type: one event class for each"
    if bare in _NAIVE:
        return f"{name} lets a naive moment through, which means another one elsewhere", "use pydantic.AwareDatetime"
    if bare is bytes or bare is bytearray:
        return f"{name} has no form of its own in JSON", "use a str, and say that it holds base64"
    if bare in _CONTAINERS:
        return f"{name} may hold anything", "name the type of its elements, such as tuple[str, ...]"
    if hasattr(bare, "__table__") or hasattr(bare, "__mapper__"):
        return f"{name} is an entity", "events carry values, not entities: copy what readers need"
    if hasattr(bare, "get_secret_value"):
        return f"{name} is masked in JSON, so it would not arrive", "leave the secret out"
    if dataclasses.is_dataclass(bare) or is_typeddict(bare):
        return f"{name} is not a pydantic model", "make it a BaseModel"
    if bare is collections.abc.Callable or get_origin(bare) is collections.abc.Callable:
        return "a callable cannot travel", "carry the value that it returns"
    return f"{name} is not a plain value", "use plain values and BaseModels; for a sequence, tuple[…, ...]"


def _name(bare: Any) -> str:
    return bare.__qualname__ if isinstance(bare, type) and not get_origin(bare) else str(bare)
