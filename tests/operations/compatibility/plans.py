"""Plans of events: a *plan* is a tuple that names a kind and its options, such as `("int", (("ge", 1),))`.

A reader's plan is made by `changed_model(plan)`: a copy of the writer's with a few changes. Two that are drawn on their
own have nothing to do with each other, and a check that always says no would pass.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

__all__ = ["EVENTS", "SCALARS", "WORDS", "Plan", "changed_model"]

Plan = tuple[Any, ...]

NAMES = ("a", "b", "c", "kind")
WORDS = ("x", "yy", "zzz", "1", " ")
PATTERNS = (None, None, None, "^[a-z]*$", "^[0-9]+$", "z")
BOUNDS = (None, None, -3, 0, 1, 2, 5, 2**53 + 1)


def options(**choices: Any) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    """Options that are stated; None leaves one out."""
    drawn = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in choices.items()})
    return drawn.map(lambda found: tuple((name, value) for name, value in found.items() if value is not None))


NUMBER = options(
    ge=BOUNDS, le=BOUNDS, gt=(None, None, 0, 2**53 + 2), lt=(None, None, 4, 2**60), multiple_of=(None, None, 2, 4)
)
FLAG = (None, None, True)
SIZE: Mapping[str, Any] = {"min_length": (None, None, 0, 1, 2), "max_length": (None, None, 2, 3)}
DAYS = (None, None, date(2020, 1, 1), date(2021, 1, 1))
SPANS = (None, None, timedelta(0), timedelta(days=1))
AMOUNTS = (None, None, Decimal("0.5"), Decimal("1.50"), Decimal(2))

SCALARS: Mapping[str, st.SearchStrategy[Any]] = {
    "int": NUMBER,
    "float": NUMBER,
    "str": options(**SIZE, pattern=PATTERNS, strip_whitespace=FLAG, to_upper=FLAG),
    "bool": st.just(()),
    "decimal": options(ge=AMOUNTS, lt=AMOUNTS, max_digits=(None, None, 2, 4), decimal_places=(None, None, 0, 2)),
    "uuid": st.just(()),
    "moment": options(ge=(None, None, datetime(2020, 1, 1, tzinfo=UTC))),
    "date": options(ge=DAYS, le=DAYS),
    "span": options(ge=SPANS, lt=SPANS),
    "literal": st.lists(st.sampled_from([*WORDS, 1, 2, True, None]), min_size=1, max_size=3, unique_by=repr).map(tuple),
    "enum": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(tuple),
    "open": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(tuple),
}


def scalars() -> st.SearchStrategy[Plan]:
    return st.sampled_from(sorted(SCALARS)).flatmap(lambda kind: SCALARS[kind].map(lambda found: (kind, found)))


def containers(inner: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    size = options(**SIZE)
    keys = (
        st.just(("str", ())) | st.tuples(st.just("enum"), SCALARS["enum"]) | st.tuples(st.just("str"), SCALARS["str"])
    )
    return st.one_of(
        st.tuples(st.just("optional"), inner),
        st.tuples(st.just("union"), st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.tuples(st.just("list"), inner, size),
        st.tuples(st.just("set"), scalars(), size),
        st.tuples(st.just("tuple"), st.lists(inner, max_size=3).map(tuple)),
        st.tuples(st.just("dict"), keys, inner, size),
        models(inner),
        st.lists(models(inner), min_size=1, max_size=3).map(lambda found: ("tagged", tuple(found))),
    )


def fields(inner: st.SearchStrategy[Plan]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Name, plan, whether there is a default, alias, names that are read, whether None is left out."""
    return st.tuples(
        st.sampled_from(NAMES),
        inner,
        st.booleans(),
        st.sampled_from((None, None, *NAMES)),
        st.sampled_from((None, None, None, ("a", "b"), ("c", "a"))),
        st.sampled_from((False, False, False, True)),
    )


def models(inner: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    return st.tuples(
        st.just("model"),
        st.lists(fields(inner), max_size=3, unique_by=lambda field: field[0]).map(tuple),
        options(extra=(None, None, None, "forbid"), validate_by_name=FLAG, serialize_by_alias=FLAG),
        st.booleans(),
    )


PLANS = st.recursive(scalars(), containers, max_leaves=5)
EVENTS = st.tuples(
    st.just("model"),
    st.lists(fields(PLANS), min_size=1, max_size=3, unique_by=lambda field: field[0]).map(tuple),
    options(extra=(None, None, None, "forbid")),
    st.just(False),
)


@st.composite
def changed(draw: st.DrawFn, plan: Plan) -> Plan:  # noqa: PLR0911 - one for each kind of change
    """The plan with a few changes somewhere; often with none in this place."""
    match draw(st.integers(0, 11)), plan:
        case 0, _:
            return draw(PLANS)
        case 1, _:
            return ("optional", plan)
        case 2, ("optional", inner):
            found: Plan = inner
            return found
        case 3, _:
            return ("union", (plan, draw(PLANS)))
        case ((4 | 5 | 6), (kind, _)) if kind in SCALARS:
            return (kind, draw(SCALARS[kind]))
        case 7, ("int", found):
            return (draw(st.sampled_from(["float", "decimal"])), tuple(one for one in found if one[0] != "multiple_of"))
        case _:
            return draw(changed_within(plan))


@st.composite
def changed_within(draw: st.DrawFn, plan: Plan) -> Plan:  # noqa: PLR0911 - one for each kind
    match plan:
        case ("optional", inner):
            return ("optional", draw(changed(inner)))
        case ("union" | "tuple" as kind, members):
            found = [draw(changed(member)) for member in members]
            return (kind, tuple(draw(st.permutations(found))) if kind == "union" else tuple(found))
        case ("tagged", members):
            kept = [draw(changed_model(member)) for member in members]
            more = draw(st.lists(models(scalars()), max_size=1))
            return ("tagged", tuple(kept + more)[: draw(st.sampled_from([2, 3, 4]))])
        case ("list" | "set" as kind, inner, size):
            other = {"list": "set", "set": "list"}[kind] if inner[0] in SCALARS and draw(st.booleans()) else kind
            element = inner if draw(st.booleans()) else draw(changed(inner))
            element = element if element[0] in SCALARS or other == "list" else inner
            return (other, element, draw(options(**SIZE)) if draw(st.booleans()) else size)
        case ("dict", keys, inner, size):
            return ("dict", keys, draw(changed(inner)), draw(options(**SIZE)) if draw(st.booleans()) else size)
        case ("model", *_):
            return draw(changed_model(plan))
    return plan


@st.composite
def changed_model(draw: st.DrawFn, plan: Plan) -> Plan:
    _, found, config, recursive = plan
    kept = []
    for name, inner, default, alias, choices, left_out in found:
        match draw(st.integers(0, 8)):
            case 0:
                continue
            case 1:
                kept.append((name, inner, not default, alias, choices, left_out))
            case 2:
                kept.append((name, inner, default, draw(st.sampled_from((None, *NAMES))), choices, left_out))
            case 3 | 4:
                kept.append((name, draw(changed(inner)), default, alias, choices, left_out))
            case _:
                kept.append((name, inner, default, alias, choices, left_out))
    kept += [one for one in draw(st.lists(fields(scalars()), max_size=1)) if one[0] not in {other[0] for other in kept}]
    if draw(st.integers(0, 5)) == 0:
        config = draw(options(extra=(None, None, "forbid"), validate_by_name=FLAG))
    return ("model", tuple(kept), config, recursive)
