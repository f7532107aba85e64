"""What an author will regret is a warning with its path, once, and never a refusal."""

import warnings
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from contracts import ContractWarning, IntegrationEvent


class Card(BaseModel):
    kind: Literal["card"] = "card"


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


class Line(BaseModel):
    tags: list[str]
    parts: tuple["Line", ...] = ()


class Depth6(BaseModel):
    number: int


class Depth5(BaseModel):
    inner: Depth6 | None = None


class Depth4(BaseModel):
    inner: Depth5


class Depth3(BaseModel):
    inner: Depth4


class Depth2(BaseModel):
    inner: tuple[Depth3, ...]


class Depth1(BaseModel):
    inner: Depth2


PAYMENT = Annotated[Card | Cash, Field(discriminator="kind")]


def told(annotation: Any, default: Any = ...) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        create_model("Made", __base__=IntegrationEvent, field=(annotation, default))
    assert {one.category for one in caught} <= {ContractWarning}
    return [str(one.message).partition(".Made, at ")[2] for one in caught]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (list[int], "field: a list can be changed in an event that is frozen; write tuple[…, ...]"),
        (list[int] | None, "field: a list can be changed"),
        (tuple[list[int], ...], "field[]: a list can be changed"),
        (dict[str, list[int]], "field{}: a list can be changed"),
        (set[int], "field: a set can be changed in an event that is frozen; write frozenset[…]"),
        (tuple[Line, ...], "field[].tags: a list can be changed"),
        (Card | Cash, "field: Card and Cash are told apart by trying; give them a literal field and Field(discrimin"),
        (tuple[Card | Cash | None, ...], "field[]: Card and Cash are told apart by trying"),
        (Depth1, "field.inner.inner[].inner.inner.inner: it stands 6 models deep"),
    ],
)
def test_what_will_be_regretted_has_its_path(annotation: Any, text: str) -> None:
    (found,) = told(annotation)

    assert found.startswith(text)


@pytest.mark.parametrize(
    ("annotation", "default", "kind"),
    [
        (tuple[int, ...], Field(default_factory=list), "list"),
        (tuple[int, ...], [], "list"),
        (frozenset[int], Field(default_factory=set), "set"),
    ],
)
def test_a_default_that_can_be_changed_is_told(annotation: Any, default: Any, kind: str) -> None:
    assert told(annotation, default) == [
        f"field: its default is a {kind}, which can be changed; write one that cannot, such as ()"
    ]


@pytest.mark.parametrize(
    "annotation",
    [
        tuple[int, ...],
        frozenset[int],
        dict[str, int],
        Card | None,
        int | str,
        PAYMENT,
        PAYMENT | None,
        tuple[PAYMENT, ...],
        dict[str, PAYMENT],
        Depth2,
    ],
)
def test_nothing_is_said_without_need(annotation: Any) -> None:
    assert told(annotation) == []


def test_a_mapping_may_have_an_empty_default() -> None:
    assert told(dict[str, int], Field(default_factory=dict)) == []
    assert told(dict[str, int], {}) == []


def test_a_model_that_stands_high_may_stand_too_deep_as_well() -> None:
    with pytest.warns(ContractWarning) as caught:
        create_model("Made", __base__=IntegrationEvent, high=(Depth4, ...), deep=(Depth1, ...))

    (warning,) = caught
    assert "Made, at deep.inner.inner[].inner.inner.inner: it stands 6 models deep" in str(warning.message)


def test_a_class_is_told_of_once_where_it_is_defined() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class OrderPlaced(IntegrationEvent):
            lines: list[int]

        OrderPlaced.model_rebuild(force=True)
        TypeAdapter(OrderPlaced)
        OrderPlaced(lines=[1])

    (warning,) = caught
    assert warning.filename == __file__
    assert warning.line is None or "class OrderPlaced" in warning.line
    assert str(warning.message).startswith(f"{__name__}.test_a_class_is_told_of_once_where_it_is_defined.<locals>.")


def test_a_class_that_was_told_of_works() -> None:
    with pytest.warns(ContractWarning, match="a list can be changed"):

        class OrderPlaced(IntegrationEvent):
            lines: list[int] = Field(default_factory=list)

    event = OrderPlaced(lines=[1, 2])
    assert OrderPlaced.model_validate_json(event.model_dump_json()) == event


def test_a_subclass_is_told_of_what_it_adds_to_its_own() -> None:
    class Base(IntegrationEvent):
        number: int

    with pytest.warns(ContractWarning, match=r"Sub, at lines"):

        class Sub(Base):
            lines: list[int]


class Article(BaseModel):
    sku: str = Field(alias="article")


class Either(BaseModel):
    sku: str = Field(validation_alias=AliasChoices("article", "number"), serialization_alias="number")  # type: ignore[pydantic-alias]


class Faithful(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    sku: str = Field(alias="article")


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True)

    sku: str = Field(alias="article")


class NeverByAlias(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)

    sku: str = Field(alias="article")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Article, "written as 'sku' and read as 'article'"),
        (Either, "written as 'sku' and read as 'article' or 'number'"),
    ],
)
def test_a_name_that_is_lost_on_the_way_is_told(model: type[BaseModel], text: str) -> None:
    [warning] = told(tuple[model, ...])  # type: ignore[valid-type]

    assert warning.startswith("field[].sku: it is " + text)
    assert f"serialize_by_alias=True and validate_by_name=True in {model.__name__}'s model_config" in warning
    with pytest.raises(ValidationError):
        model.model_validate_json(model.model_construct(sku="a").model_dump_json())


@pytest.mark.parametrize("model", [Faithful, ByName, NeverByAlias])
def test_a_name_that_arrives_is_not(model: type[BaseModel]) -> None:
    assert told(tuple[model, ...]) == []  # type: ignore[valid-type]
    assert model.model_validate_json(model.model_construct(sku="a").model_dump_json()) == model.model_construct(sku="a")
