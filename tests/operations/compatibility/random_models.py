"""Events that are made of random plans, and what their instances may be made of.

`event(plan)` is the class, `model_values(plan)` a strategy for its data; the class refuses some of them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

from hypothesis import strategies as st
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field, StringConstraints, create_model

from contracts import IntegrationEvent, OpenEnum
from tests.operations.compatibility.plans import WORDS, Plan

__all__ = ["event", "model_values"]

# Types that are put together at run time; a type checker would want them written down.
LIST: Any = list
SET: Any = set
TUPLE: Any = tuple
DICT: Any = dict
OPTIONAL: Any = Optional
UNION: Any = Union
CREATE: Any = create_model
OPEN: Any = OpenEnum


def annotation(plan: Plan) -> Any:  # noqa: C901, PLR0911, PLR0912 - one for each kind
    match plan:
        case ("literal", found):
            return Literal[found]
        case ("enum", found):
            return Enum("Choice", {f"M{place}": value for place, value in enumerate(found)}, type=str)
        case ("open", found):
            return OPEN("Choice", {f"M{place}": value for place, value in enumerate(found)})
        case ("str", found):
            return Annotated[str, StringConstraints(**dict(found))]
        case (("int" | "float" | "decimal" | "bool" | "uuid" | "moment" | "date" | "span") as kind, found):
            bare = TYPES[kind]
            return Annotated[bare, Field(**dict(found))] if found else bare
        case ("optional", inner):
            return OPTIONAL[annotation(inner)]
        case ("union", members):
            return UNION[tuple(annotation(member) for member in members)]
        case ("list", inner, size):
            return Annotated[LIST[annotation(inner)], Field(**dict(size))]
        case ("set", inner, size):
            return Annotated[SET[annotation(inner)], Field(**dict(size))]
        case ("tuple", members):
            return TUPLE[tuple(annotation(member) for member in members)] if members else TUPLE[()]
        case ("dict", keys, inner, size):
            return Annotated[DICT[annotation(keys), annotation(inner)], Field(**dict(size))]
        case ("model", *_):
            return model(plan)
        case ("tagged", members):
            made = [model(member, tag=f"t{place}") for place, member in enumerate(members)]
            return Annotated[UNION[tuple(made)], Field(discriminator="tag")] if len(made) > 1 else made[0]
    raise AssertionError(plan)


TYPES: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bool": bool,
    "uuid": UUID,
    "moment": AwareDatetime,
    "date": date,
    "span": timedelta,
}


def model(plan: Plan, base: type[BaseModel] | None = None, tag: str | None = None) -> type[BaseModel]:
    _, found, config, recursive = plan
    definitions: dict[str, Any] = {}
    for name, inner, default, alias, choices, left_out in found:
        facts: dict[str, Any] = {}
        if default:
            facts["default"] = None
        if alias:
            facts["alias"] = alias
        if choices:
            facts["validation_alias"] = AliasChoices(*choices)
        if left_out:
            facts["exclude_if"] = lambda value: value is None
        kind = annotation(inner)
        definitions[name] = (kind | None if default else kind, Field(**facts))
    if tag is not None:
        definitions["tag"] = (Literal[tag], tag)
    if recursive:
        definitions["again"] = ("Model | None", None)
    parent: Any = base or BaseModel
    settings = {**({} if base else {"allow_inf_nan": False, "frozen": True}), **dict(config)}
    made: type[BaseModel] = CREATE(
        "Model",
        __base__=type("Base", (parent,), {"model_config": settings, "__module__": __name__}),
        **definitions,
    )
    made.model_rebuild(_types_namespace={"Model": made})
    return made


def event(plan: Plan) -> type[BaseModel]:
    return model(plan, IntegrationEvent)


def numbers(kind: str) -> st.SearchStrategy[Any]:
    small = st.integers(-6, 8)
    large = st.sampled_from([2**53, 2**53 + 1, 2**53 + 2, 2**60 - 1, 2**60, -(2**60), 10**300])
    whole = small | large | st.integers(-(10**20), 10**20)
    if kind == "int":
        return whole
    if kind == "float":
        return small.map(float) | st.floats(allow_nan=False, allow_infinity=False)
    return (
        small.map(Decimal)
        | st.decimals(allow_nan=False, allow_infinity=False, min_value=-3, max_value=200, places=2)
        | st.sampled_from(
            [Decimal("1E+2"), Decimal("0.50"), Decimal("1E-7"), Decimal("1E+400"), Decimal("99.99"), Decimal("1.5")]
        )
    )


SIMPLE_VALUES: Mapping[str, Callable[[], st.SearchStrategy[Any]]] = {
    "bool": st.booleans,
    "uuid": st.uuids,
    "moment": lambda: st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "date": lambda: st.sampled_from([date(2020, 1, 1), date(2020, 6, 1), date(2021, 1, 1)]) | st.dates(),
    "span": lambda: st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=1)]) | st.timedeltas(),
    "str": lambda: st.sampled_from([*WORDS, "", " x ", "a", "abc", "12"]) | st.text(max_size=4),
}


def values(plan: Plan) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - one for each kind
    """What such a value may be made of; the class refuses some."""
    match plan:
        case ("literal" | "enum", found):
            return st.sampled_from(found)
        case ("open", found):
            return st.sampled_from([*found, "unheard of"])
        case (("int" | "float" | "decimal") as kind, found):
            bounds = [value for name, value in found if name in {"ge", "le", "gt", "lt"}]
            near = [type(value)(value + step) for value in bounds for step in (-1, 0, 1)]
            multiples = numbers("int").map(lambda one: one * 4) if "multiple_of" in dict(found) else st.nothing()
            return numbers(kind) | multiples | (st.sampled_from(near) if near else st.nothing())
        case (kind, _) if kind in SIMPLE_VALUES:
            return SIMPLE_VALUES[kind]()
        case ("optional", inner):
            return st.none() | values(inner)
        case ("union", members):
            return st.one_of([values(member) for member in members])
        case ("list", inner, size):
            return st.lists(
                values(inner), min_size=dict(size).get("min_length", 0), max_size=dict(size).get("max_length", 3)
            )
        case ("set", inner, size):
            return st.lists(
                values(inner), min_size=dict(size).get("min_length", 0), max_size=dict(size).get("max_length", 3)
            )
        case ("tuple", members):
            return st.tuples(*(values(member) for member in members))
        case ("dict", keys, inner, size):
            least = 0 if keys[0] == "enum" else dict(size).get("min_length", 0)
            return st.dictionaries(
                values(keys), values(inner), min_size=least, max_size=dict(size).get("max_length", 3)
            )
        case ("model", *_):
            return model_values(plan)
        case ("tagged", members):
            return st.one_of([model_values(member, tag=f"t{place}") for place, member in enumerate(members)])
    raise AssertionError(plan)


def model_values(plan: Plan, tag: str | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Under the first name that the model looks for."""
    _, found, _, recursive = plan
    parts = {}
    for name, inner, default, alias, choices, _ in found:
        read_as = choices[0] if choices else alias or name
        parts[read_as] = (st.none() | values(inner)) if default else values(inner)
    if tag is not None:
        parts["tag"] = st.just(tag)
    level = st.fixed_dictionaries(parts)
    if not recursive:
        return level
    return level.flatmap(
        lambda outer: (st.none() | level.map(lambda inner: {**inner, "again": None})).map(
            lambda again: {**outer, "again": again}
        )
    )
