"""An integration event carries simple values, and what is refused is named by its path."""

import dataclasses
import ipaddress
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    UUID4,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    FutureDate,
    HttpUrl,
    Json,
    NaiveDatetime,
    PastDatetime,
    PositiveInt,
    RootModel,
    SecretStr,
    SkipValidation,
    StrictStr,
    ValidationError,
    create_model,
)

from contracts import (
    ContractError,
    IntegrationEvent,
    NotSimpleError,
    OpenEnum,
    Sensitive,
    UnresolvedTypeError,
    check_simple,
)

# Lists are accepted, with a warning of which test_advice.py tells.
pytestmark = pytest.mark.filterwarnings("ignore::contracts.ContractWarning")

T = TypeVar("T")
Sku = NewType("Sku", str)

# Older spellings, which contracts may still use.
OLD_LIST: Any = vars(typing)["List"]
OLD_DICT: Any = vars(typing)["Dict"]
OPTIONAL_INT: Any = vars(typing)["Optional"][int]
INT_OR_STR: Any = vars(typing)["Union"][int, str]


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Channel(OpenEnum):
    WEB = "web"


class Point(Enum):
    ORIGIN = (0, 0)


class Product(BaseModel):
    sku: Sku
    tags: frozenset[str] = frozenset()


class Line(BaseModel):
    product: Product
    parts: tuple["Line", ...] = ()


class Page(BaseModel, Generic[T]):
    items: tuple[T, ...]


class Names(RootModel[list[str]]):
    pass


class Loose(BaseModel):
    meta: Any


class LooseLine(BaseModel):
    product: Loose


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Weight(BaseModel):
    grams: float


class WeightOrNaN(BaseModel):
    model_config = ConfigDict(allow_inf_nan=True)
    price: Decimal


class FiniteWeight(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    grams: float
    price: Decimal


class ExactWeight(BaseModel):
    grams: FiniteFloat
    net: Annotated[float | None, Field(allow_inf_nan=False)] = None
    price: Decimal = Decimal(0)


class OrderRow:
    """As an object-relational mapper leaves it."""

    __table__ = "orders"


class OrderModelRow(BaseModel):
    """As SQLModel leaves it: a model and a table at once."""

    __table__ = "orders"
    id: int


class Arbitrary:
    pass


@dataclasses.dataclass
class Address:
    street: str


class Size(NamedTuple):
    width: int


class Options(TypedDict):
    gift: bool


def event_with(annotation: Any) -> type[IntegrationEvent]:
    return create_model("Made", __base__=IntegrationEvent, field=(annotation, ...))


@pytest.mark.parametrize(
    "annotation",
    [
        str, int, float, bool, None, Decimal, UUID, AwareDatetime, date, time, timedelta,
        Colour, Level, Literal["a", 1, True] | None, Literal[Colour.RED], Sku, UUID4, PositiveInt, StrictStr,
        FutureDate, HttpUrl, ipaddress.IPv4Address, str | None, OPTIONAL_INT, INT_OR_STR,
        tuple[int, ...], tuple[int, str], tuple[()], list[str], set[int], frozenset[UUID], OLD_LIST[str],
        OLD_DICT[str, int], dict[str, Decimal], Mapping[str, int], dict[Sku, int], dict[Colour, int],
        dict[Literal["a"], int], dict[Annotated[str, Field(max_length=3)], int],
        Channel, dict[Channel, int], Annotated[dict[str, int], Sensitive()],
        Product, Line, list[Line], Page[Product], Names, FiniteWeight, ExactWeight,
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=9)],
    ],
)  # fmt: skip
def test_simple_values_are_accepted(annotation: Any) -> None:
    check_simple(event_with(annotation))


@pytest.mark.parametrize(
    ("annotation", "path", "reason"),
    [
        (Any, "field", "Any says nothing.*name the type"),
        (object, "field", "object says nothing"),
        (list[Any], "field[]", "Any says nothing"),
        (list, "field", "list may hold anything"),
        (OLD_LIST, "field", "list may hold anything"),
        (dict, "field", "dict may hold anything"),
        (OLD_DICT, "field", "dict may hold anything"),
        (tuple, "field", "tuple may hold anything"),
        (dict[str, list[Any]], "field{}[]", "Any says nothing"),
        (dict[int, str], "field{key}", "int cannot be a key"),
        (dict[Level, str], "field{key}", "Level cannot be a key"),
        (dict[Literal["a", 1], str], "field{key}", "cannot be a key"),
        (bytes, "field", "bytes has no form.*base64"),
        (Base64Bytes, "field", "bytes has no form"),
        (datetime, "field", "datetime lets a naive moment through.*AwareDatetime"),
        (Annotated[datetime, Field(description="when")], "field", "datetime lets a naive moment"),
        (datetime | None, "field", "datetime lets a naive moment"),
        (NaiveDatetime, "field", "NaiveDatetime lets a naive moment"),
        (PastDatetime, "field", "PastDatetime lets a naive moment"),
        (tuple[int, datetime], "field[]", "datetime lets a naive moment"),
        (Callable[[], int], "field", "a callable cannot travel"),
        (Callable, "field", "a callable cannot travel"),
        (Arbitrary, "field", "Arbitrary is not a plain value"),
        (Sequence[int], "field", r"Sequence.* is not a plain value.*tuple\[…, \.\.\.\]"),
        (Iterator[int], "field", "is not a plain value"),
        (type[int], "field", "is not a plain value"),
        (complex, "field", "complex is not a plain value"),
        (Size, "field", "Size is not a plain value"),
        (Address, "field", "Address is not a pydantic model; make it a BaseModel"),
        (Options, "field", "Options is not a pydantic model"),
        (OrderRow, "field", "OrderRow is an entity; events carry values, not entities"),
        (list[OrderModelRow], "field[]", "OrderModelRow is an entity; events carry values, not entities"),
        (SecretStr, "field", "SecretStr is masked in JSON"),
        (Json[int], "field", "what validation takes is not what JSON carries"),
        (SkipValidation[int], "field", "what validation takes is not what JSON carries"),
        (Point, "field", r"Point.ORIGIN has the value \(0, 0\)"),
        (Literal[Point.ORIGIN], "field", "Point.ORIGIN has the value"),
        (Literal[Channel.WEB], "field", "a literal of Channel is closed"),
        (Annotated[str, Sensitive], "field", r"no brackets; write Sensitive\(\)"),
        (tuple[Annotated[str, Sensitive], ...], "field[]", "no brackets"),
        (dict[Annotated[str, Sensitive()], int], "field{key}", "a key cannot be masked; mark the whole mapping"),
        (Literal[b"a"], "field", "b'a' is not a plain value"),
        (T, "field", "the type variable ~T is open"),
        (Page, "field.items[]", "the type variable ~T is open"),
        (Page[Loose], "field.items[].meta", "Any says nothing"),
        (LooseLine, "field.product.meta", "Any says nothing"),
        (dict[str, LooseLine], "field{}.product.meta", "Any says nothing"),
        (Open, "field", "Open takes any extra field"),
        (Weight, "field.grams", "float may be NaN or infinite in Weight.*FiniteFloat"),
        (WeightOrNaN, "field.price", "Decimal may be NaN or infinite in WeightOrNaN"),
        (Annotated[float, Field(allow_inf_nan=True)], "field", "float may be NaN or infinite in Made"),
    ],
)
def test_what_is_not_simple_is_refused_with_its_path(annotation: Any, path: str, reason: str) -> None:
    with pytest.raises(NotSimpleError, match=reason) as refusal:
        event_with(annotation)

    assert refusal.value.path == path
    assert refusal.value.where == f"{__name__}.Made"
    assert isinstance(refusal.value, ContractError)


def test_the_path_leads_through_lists_and_models() -> None:
    with pytest.raises(NotSimpleError) as refusal:

        class OrderPlaced(IntegrationEvent):
            lines: list[LooseLine]

    assert refusal.value.path == "lines[].product.meta"
    assert refusal.value.where.endswith("<locals>.OrderPlaced")
    assert ".OrderPlaced, at lines[].product.meta: Any says nothing to a reader; name the type" in str(refusal.value)


@pytest.mark.parametrize("annotation", [float, float | None, list[float], dict[str, float], Decimal, Decimal | None])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_no_values(annotation: Any, value: str) -> None:
    event_class = event_with(annotation)
    number = Decimal(value) if "Decimal" in str(annotation) else float(value)
    wrapped = [number] if annotation == list[float] else {"a": number} if annotation == dict[str, float] else number

    with pytest.raises(ValidationError, match="finite"):
        event_class.model_validate({"field": wrapped})


@pytest.mark.parametrize("model", [FiniteWeight, ExactWeight])
@pytest.mark.parametrize("field", ["grams", "price"])
def test_a_nested_model_that_is_accepted_takes_no_nan_either(model: type[BaseModel], field: str) -> None:
    weight = {"grams": 1, "price": 1, field: "NaN"}

    with pytest.raises(ValidationError, match="finite"):
        event_with(model).model_validate({"field": weight})


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (ConfigDict(extra="allow"), "takes any extra field"),
        (ConfigDict(frozen=False), "can be changed"),
        (ConfigDict(allow_inf_nan=True), "float may be NaN"),
        (ConfigDict(arbitrary_types_allowed=True), "Arbitrary is not a plain value"),
    ],
)
def test_an_event_cannot_configure_its_promise_away(config: ConfigDict, problem: str) -> None:
    field = Arbitrary if "arbitrary_types_allowed" in config else float
    namespace = {"__module__": __name__, "model_config": config, "__annotations__": {"field": field}}

    with pytest.raises(NotSimpleError, match=problem):
        types.new_class("Made", (IntegrationEvent,), exec_body=lambda body: body.update(namespace))


def test_an_event_may_contain_itself() -> None:
    class Step(IntegrationEvent):
        before: "tuple[Step, ...]" = ()

    assert Step(before=(Step(),)).before[0].before == ()


def test_a_forward_reference_is_checked_as_soon_as_it_is_known() -> None:
    class OrderPlaced(IntegrationEvent):
        line: "Later"

    with pytest.raises(UnresolvedTypeError, match=r"at line: 'Later' is not defined yet"):
        check_simple(OrderPlaced)

    class Later(BaseModel):
        meta: Any

    # Again and again: a class that failed once must not work the second time.
    for _ in range(2):
        with pytest.raises(NotSimpleError, match=r"at line\.meta: Any"):
            OrderPlaced.model_rebuild()


def test_a_class_with_an_unresolved_fault_never_makes_an_instance() -> None:
    for _ in range(2):
        with pytest.raises(NotSimpleError, match=r"at field\.meta"):
            Early(field=LateLoose(meta=1))


class Early(IntegrationEvent):
    field: "LateLoose"


class LateLoose(BaseModel):
    meta: Any


class EarlyNested(BaseModel):
    inner: "LateInner"


class LateInner(BaseModel):
    size: int


def test_a_nested_model_that_was_unresolved_is_resolved_for_the_check() -> None:
    class Wrapped(IntegrationEvent):
        nested: EarlyNested

    assert Wrapped.model_validate({"nested": {"inner": {"size": 1}}}).nested.inner.size == 1


class OuterOfLocal(BaseModel):
    inner: "OnlyLocal"  # type: ignore[name-defined]  # noqa: F821 - defined where the event is


def test_what_only_pydantic_can_resolve_is_not_let_through_unchecked() -> None:
    class OnlyLocal(BaseModel):
        meta: Any

    with pytest.raises(UnresolvedTypeError, match=r"at field\.inner: 'OnlyLocal' is not defined yet"):

        class Wrapped(IntegrationEvent):
            field: OuterOfLocal
