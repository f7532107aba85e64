"""Pairs of events, yesterday's and today's, and what separates them in each direction.

`backward` is what today's class refuses of what yesterday's wrote, `forward` the other way round: the rule, and where.
`unseen` lists what is reported although pydantic reads it, because it succeeds by luck or means something else.
"""

import warnings
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, Union
from uuid import UUID

from pydantic import (
    AliasChoices,
    AliasPath,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    HttpUrl,
    IPvAnyAddress,
    StringConstraints,
    create_model,
)

from contracts import ContractWarning, IntegrationEvent, OpenEnum
from mediator.operations.compatibility import Rule

__all__ = ["CASES", "Case"]

Expected = tuple[tuple[Rule, str], ...]


@dataclass(frozen=True)
class Case:
    name: str
    old: type[BaseModel]
    new: type[BaseModel]
    backward: Expected = ()
    forward: Expected = ()
    unseen: tuple[str, ...] = ()


def event(**fields: Any) -> type[BaseModel]:
    return _made(IntegrationEvent, fields)


def part(**fields: Any) -> type[BaseModel]:
    return _made(BaseModel, fields)


def closed(**fields: Any) -> type[BaseModel]:
    return _made(BaseModel, fields, extra="forbid")


def _made(base: type[BaseModel], fields: dict[str, Any], **config: Any) -> type[BaseModel]:
    parent = type("Base", (base,), {"model_config": ConfigDict(**config), "__module__": __name__})  # type: ignore[typeddict-item]
    definitions = {name: field if isinstance(field, tuple) else (field, ...) for name, field in fields.items()}
    create: Any = create_model
    # Some have what an author would be warned of.
    with warnings.catch_warnings(action="ignore", category=ContractWarning):
        made: type[BaseModel] = create("Made", __base__=parent, **definitions)
    return made


class Size(Enum):
    S = "s"
    M = "m"


class MoreSizes(Enum):
    S = "s"
    M = "m"
    L = "l"


class OpenSize(OpenEnum):
    S = "s"
    M = "m"


class MoreOpenSizes(OpenEnum):
    S = "s"
    M = "m"
    L = "l"


class Node(BaseModel):
    value: int
    children: tuple["Node", ...] = ()


class NamedNode(BaseModel):
    value: int
    name: str
    children: tuple["NamedNode", ...] = ()


class TextNode(BaseModel):
    value: str
    children: tuple["TextNode", ...] = ()


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Transfer(BaseModel):
    kind: Literal["transfer"] = "transfer"
    iban: str


class SafeTransfer(BaseModel):
    kind: Literal["transfer"] = "transfer"
    iban: str
    bic: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


def one_of(*members: type[BaseModel]) -> Any:
    return Annotated[Union[members], Field(discriminator="kind")]  # noqa: UP007 - made at run time


def text(**limits: Any) -> Any:
    return Annotated[str, StringConstraints(**limits)]


def limited(kind: Any, **limits: Any) -> Any:
    return Annotated[kind, Field(**limits)]


def several(element: Any) -> Any:
    variable: Any = tuple
    return variable[element, ...]


def is_none(value: object) -> bool:
    return value is None


def at(rule: Rule, path: str = "a") -> Expected:
    return ((rule, path),)


MISSING, LEFT_OUT, TYPE = Rule.REQUIRED_FIELD_MISSING, Rule.REQUIRED_FIELD_OPTIONAL, Rule.TYPE_CHANGED
FORMAT, UNKNOWN, NARROWED = Rule.FORMAT_NARROWED, Rule.ENUM_VALUE_UNKNOWN, Rule.ENUM_NARROWED
TIGHTER, PATTERN, VARIANT, NULL = (
    Rule.CONSTRAINT_TIGHTENED,
    Rule.PATTERN_CHANGED,
    Rule.VARIANT_UNKNOWN,
    Rule.NULL_NOT_ALLOWED,
)

CASES: tuple[Case, ...] = (
    # --- fields that come and go
    Case("nothing changed", event(a=int), event(a=int)),
    Case("optional field added", event(a=int), event(a=int, b=(str | None, None))),
    Case("required field added", event(a=int), event(a=int, b=str), at(MISSING, "b")),
    Case("field with a default removed", event(a=int, b=(str, "x")), event(a=int)),
    Case("required field removed", event(a=int, b=str), event(a=int), (), at(MISSING, "b")),
    Case("required becomes optional", event(a=int), event(a=(int, 0))),
    Case("optional becomes required", event(a=(int, 0)), event(a=int)),
    Case(
        "left out when empty, then required",
        event(a=(str | None, Field(default=None, exclude_if=is_none))),
        event(a=str | None),
        at(LEFT_OUT),
    ),
    Case("default changed", event(a=(int, 0)), event(a=(int, 1))),
    Case("renamed", event(a=int), event(b=int), at(MISSING, "b"), at(MISSING, "a")),
    Case("renamed under its old name", event(a=int), event(b=(int, Field(alias="a")))),
    Case(
        "renamed, reading both names",
        event(a=int),
        event(b=(int, Field(validation_alias=AliasChoices("b", "a")))),
        (),
        at(MISSING, "a"),
    ),
    Case(
        "alias in a part, which is written and read by name",
        event(a=part(b=int)),
        event(a=_made(BaseModel, {"b": (int, Field(alias="c"))}, validate_by_name=True)),
    ),
    Case(
        "alias in a part that writes it",
        event(a=part(b=int)),
        event(a=_made(BaseModel, {"b": (int, Field(alias="c"))}, serialize_by_alias=True)),
        at(MISSING, "a.c"),
        at(MISSING, "a.b"),
    ),
    Case(
        "reader is closed, field added",
        event(a=closed(b=int)),
        event(a=part(b=int, c=(int, 0))),
        (),
        at(Rule.CLOSED_READER, "a.c"),
    ),
    Case("reader becomes closed", event(a=part(b=int)), event(a=closed(b=int))),
    Case(
        "closed reader loses a field",
        event(a=part(b=int, c=int)),
        event(a=closed(b=int)),
        at(Rule.CLOSED_READER, "a.c"),
        at(MISSING, "a.c"),
    ),
    Case(
        "closed reader finds a field under two names",
        event(a=part(b=int, c=int)),
        event(
            a=_made(
                BaseModel,
                {"d": (int, Field(validation_alias=AliasChoices("b", "c")))},
                validate_by_name=True,
                extra="forbid",
            )
        ),
        at(Rule.CLOSED_READER, "a.c"),
        at(MISSING, "a.b") + at(MISSING, "a.c"),
    ),
    Case(
        "reads the first of two names, whatever stands under the second",
        event(a=part(b=int, c=str)),
        event(a=_made(BaseModel, {"d": (int, Field(validation_alias=AliasChoices("b", "c")))}, validate_by_name=True)),
        (),
        at(MISSING, "a.b") + at(MISSING, "a.c"),
    ),
    Case(
        "looked up through a path",
        event(a=part(b=int)),
        event(b=(int, Field(validation_alias=AliasPath("a", "b")))),
        at(TYPE, "b") + at(MISSING, "b"),
        at(MISSING, "a"),
        unseen=("backward",),
    ),
    # --- types
    Case("int becomes float", event(a=int), event(a=FiniteFloat), (), at(TYPE)),
    Case("int becomes Decimal", event(a=int), event(a=Decimal), (), at(TYPE)),
    Case("float becomes Decimal", event(a=FiniteFloat), event(a=Decimal), (), at(TYPE)),
    Case("int becomes str", event(a=int), event(a=str), at(TYPE), at(TYPE)),
    Case("bool becomes int", event(a=bool), event(a=int), at(TYPE), at(TYPE), unseen=("backward",)),
    Case("int becomes bool", event(a=int), event(a=bool), at(TYPE), at(TYPE), unseen=("forward",)),
    Case("Decimal becomes str", event(a=Decimal), event(a=str), (), at(FORMAT)),
    Case(
        "number of seconds becomes timedelta",
        event(a=int),
        event(a=timedelta),
        at(TYPE),
        at(TYPE),
        unseen=("backward",),
    ),
    Case("value becomes a list", event(a=int), event(a=tuple[int, ...]), at(TYPE), at(TYPE)),
    Case("value becomes a model", event(a=str), event(a=part(b=str)), at(TYPE), at(TYPE)),
    Case("value may be null", event(a=int), event(a=int | None), (), at(NULL)),
    Case("value is null no longer", event(a=int | None), event(a=int), at(NULL)),
    Case("another type is possible", event(a=int), event(a=int | str), (), at(TYPE)),
    Case("another order of types", event(a=int | str), event(a=str | int)),
    # --- forms of texts
    Case("str becomes UUID", event(a=str), event(a=UUID), at(FORMAT)),
    Case("UUID becomes a short text", event(a=UUID), event(a=text(max_length=35)), at(TIGHTER), at(FORMAT)),
    Case("UUID becomes a text that is long enough", event(a=UUID), event(a=text(max_length=36)), (), at(FORMAT)),
    Case("date becomes datetime", event(a=date), event(a=AwareDatetime), at(FORMAT), at(FORMAT)),
    Case("any URL becomes an HTTP URL", event(a=AnyUrl), event(a=HttpUrl), at(TIGHTER)),
    Case("any address becomes an IPv4 address", event(a=IPvAnyAddress), event(a=IPv4Address), at(FORMAT)),
    # --- enums and literals
    Case("enum member added", event(a=Size), event(a=MoreSizes), (), at(UNKNOWN)),
    Case("enum member removed", event(a=MoreSizes), event(a=Size), at(UNKNOWN)),
    Case("enum becomes str", event(a=Size), event(a=str), (), at(NARROWED)),
    Case("enum becomes a literal", event(a=Size), event(a=Literal["m", "s"])),
    Case("enum becomes open", event(a=Size), event(a=OpenSize), (), at(NARROWED)),
    Case("member of an open enum added", event(a=OpenSize), event(a=MoreOpenSizes)),
    Case("literals in one union", event(a=Literal["a", "b"]), event(a=Literal["a"] | Literal["b"])),  # noqa: PYI030 - what it is about
    Case(
        "1 becomes true",
        event(a=Literal[1]),
        event(a=Literal[True]),
        at(UNKNOWN),
        at(UNKNOWN),
        unseen=("backward", "forward"),
    ),
    Case(
        "literals that no longer fit the length",
        event(a=Literal["a", "bb"]),
        event(a=text(max_length=1)),
        at(TIGHTER),
        at(NARROWED),
    ),
    Case("bool becomes always true", event(a=bool), event(a=Literal[True]), at(UNKNOWN)),
    # --- unions of models
    Case(
        "variant added",
        event(a=one_of(Card, Transfer)),
        event(a=one_of(Card, Transfer, Cash)),
        (),
        at(VARIANT, "a.kind"),
    ),
    Case(
        "variant removed", event(a=one_of(Card, Transfer, Cash)), event(a=one_of(Card, Transfer)), at(VARIANT, "a.kind")
    ),
    Case(
        "variant needs more", event(a=one_of(Card, Transfer)), event(a=one_of(Card, SafeTransfer)), at(MISSING, "a.bic")
    ),
    Case(
        "one model becomes a union",
        event(a=Card),
        event(a=one_of(Card, Transfer)),
        (),
        at(UNKNOWN, "a.kind") + at(MISSING, "a.number"),
    ),
    Case(
        "variant added to an optional union",
        event(a=one_of(Card, Transfer) | None),
        event(a=one_of(Card, Transfer, Cash) | None),
        (),
        at(VARIANT, "a.kind"),
    ),
    # --- limits
    Case(
        "whole number that a float would round up to the limit",
        event(a=limited(int, le=2**60 - 1)),
        event(a=limited(FiniteFloat, lt=2**60)),
        at(TIGHTER),
        at(TYPE),
    ),
    Case("maximum length lowered", event(a=text(max_length=9)), event(a=text(max_length=5)), at(TIGHTER)),
    Case("minimum added", event(a=int), event(a=limited(int, ge=1)), at(TIGHTER)),
    Case("exclusive minimum of a whole number", event(a=limited(int, ge=1)), event(a=limited(int, gt=0))),
    Case(
        "multiple of 4, then of 2",
        event(a=limited(int, multiple_of=4)),
        event(a=limited(int, multiple_of=2)),
        (),
        at(TIGHTER),
    ),
    Case(
        "more decimal places",
        event(a=limited(Decimal, decimal_places=2)),
        event(a=limited(Decimal, decimal_places=4)),
        (),
        at(TIGHTER),
    ),
    Case("no decimal places", event(a=Decimal), event(a=limited(Decimal, decimal_places=0)), at(TIGHTER)),
    Case("time must be negative", event(a=timedelta), event(a=limited(timedelta, lt=timedelta(0))), at(TIGHTER)),
    Case("minimum of a Decimal raised", event(a=limited(Decimal, ge=0)), event(a=limited(Decimal, ge=10)), at(TIGHTER)),
    Case(
        "first day moved",
        event(a=limited(date, ge=date(2020, 1, 1))),
        event(a=limited(date, ge=date(2021, 1, 1))),
        at(TIGHTER),
    ),
    Case(
        "longest time lowered",
        event(a=limited(timedelta, le=timedelta(2))),
        event(a=limited(timedelta, le=timedelta(1))),
        at(TIGHTER),
    ),
    Case(
        "pattern changed",
        event(a=text(pattern="^[a-z]+$")),
        event(a=text(pattern="^[0-9]+$")),
        at(PATTERN),
        at(PATTERN),
    ),
    Case(
        "pattern widened",
        event(a=text(pattern="^[a-f]$")),
        event(a=text(pattern="^[a-z]$")),
        at(PATTERN),
        at(PATTERN),
        unseen=("backward",),
    ),
    Case("pattern removed", event(a=text(pattern="^[a-z]+$")), event(a=str), (), at(PATTERN)),
    Case(
        "stripped before it is measured",
        event(a=text(min_length=1)),
        event(a=text(min_length=1, strip_whitespace=True)),
        at(TIGHTER),
    ),
    # --- lists, tuples, sets, mappings
    Case("list becomes a set", event(a=list[int]), event(a=set[int])),
    Case(
        "list of two becomes a set of two",
        event(a=limited(list[int], min_length=2)),
        event(a=limited(set[int], min_length=2)),
        at(TIGHTER),
    ),
    Case("list becomes a pair", event(a=list[int]), event(a=tuple[int, int]), at(TIGHTER)),
    Case("pair becomes a triple", event(a=tuple[int, int]), event(a=tuple[int, int, int]), at(TIGHTER), at(TIGHTER)),
    Case(
        "second of a pair changes",
        event(a=tuple[int, int]),
        event(a=tuple[int, str]),
        at(TYPE, "a[1]"),
        at(TYPE, "a[1]"),
    ),
    Case(
        "fewer elements",
        event(a=limited(list[int], max_length=3)),
        event(a=limited(list[int], max_length=2)),
        at(TIGHTER),
    ),
    Case(
        "element of a part changes",
        event(a=several(part(b=Decimal))),
        event(a=several(part(b=int))),
        at(TYPE, "a[].b"),
    ),
    Case(
        "values of a mapping change", event(a=dict[str, int]), event(a=dict[str, str]), at(TYPE, "a{}"), at(TYPE, "a{}")
    ),
    Case(
        "keys of a mapping become few",
        event(a=dict[str, int]),
        event(a=dict[Literal["x", "y"], int]),
        at(NARROWED, "a{key}"),
    ),
    Case("model becomes a mapping", event(a=part(b=int)), event(a=dict[str, int]), (), at(LEFT_OUT, "a.b")),
    Case(
        "more entries",
        event(a=limited(dict[str, int], max_length=1)),
        event(a=limited(dict[str, int], max_length=2)),
        (),
        at(TIGHTER),
    ),
    Case(
        "model becomes a mapping with other keys",
        event(a=part(b=int)),
        event(a=dict[Literal["x"], int]),
        at(UNKNOWN, "a.b"),
        at(LEFT_OUT, "a.b"),
    ),
    # --- models that contain themselves
    Case("model within itself", event(a=Node), event(a=Node)),
    Case("model within itself needs more", event(a=Node), event(a=NamedNode), at(MISSING, "a.name")),
    Case("model within itself changes", event(a=Node), event(a=TextNode), at(TYPE, "a.value"), at(TYPE, "a.value")),
)
