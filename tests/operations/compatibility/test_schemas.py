"""The schemas say what really travels, where pydantic's own say less."""

import json
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    computed_field,
    create_model,
)
from pydantic.json_schema import SkipJsonSchema

from contracts import IntegrationEvent
from mediator.operations.compatibility import can_read, schemas_of
from mediator.operations.compatibility.schemas.tidying import shape

# Some of them have what an author would be warned of.
pytestmark = pytest.mark.filterwarnings("ignore::contracts.ContractWarning")


def event(**fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Made", __base__=IntegrationEvent, **fields)
    return made


def field(side: dict[str, Any], name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = side["properties"][name]
    return found


class Aliased(BaseModel):
    inner: int = Field(alias="outer")


class Total(BaseModel):
    net: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gross(self) -> int:
        return self.net * 2


def test_every_field_is_written() -> None:
    schemas = schemas_of(event(a=(int, 0)))

    assert "a" in schemas.writes["required"]
    assert "a" not in schemas.reads["required"]


def test_field_that_may_be_left_out_is_not_certain() -> None:
    schemas = schemas_of(event(a=(int | None, Field(default=None, exclude_if=lambda value: value is None))))

    assert "a" not in schemas.writes["required"]


def test_part_writes_its_names_and_reads_its_aliases() -> None:
    schemas = schemas_of(event(a=(Aliased, ...)))

    assert list(schemas.writes["$defs"]["Aliased"]["properties"]) == ["inner"]
    assert list(schemas.reads["$defs"]["Aliased"]["properties"]) == ["outer"]
    assert [gap.path for gap in can_read(schemas.reads, schemas.writes)] == ["a.outer"]


def test_names_are_listed_in_the_order_in_which_they_are_tried() -> None:
    schemas = schemas_of(event(a=(int, Field(validation_alias=AliasChoices("b", AliasPath("c", "d"))))))

    assert field(schemas.reads, "b")["x-names"] == ["b", "a"]
    assert field(schemas.reads, "b")["x-paths"] == ["c"]


def test_two_fields_that_write_one_name_write_anything() -> None:
    schemas = schemas_of(event(a=(int, ...), b=(str, Field(serialization_alias="a"))))

    assert field(schemas.writes) == {}


def test_two_fields_that_read_one_name_are_both_kept() -> None:
    reader = event(b=(str, Field(validation_alias="a")), a=(int, ...))
    writer = event(a=(int, ...))

    assert len(can_read(schemas_of(reader).reads, schemas_of(writer).writes)) == 1


def test_computed_field_is_written_and_not_read() -> None:
    schemas = schemas_of(event(a=(Total, ...)))

    assert "gross" in schemas.writes["$defs"]["Total"]["properties"]
    assert "gross" not in schemas.reads["$defs"]["Total"]["properties"]


def test_bounds_of_decimals_and_moments_are_exact() -> None:
    schemas = schemas_of(
        event(
            a=(Annotated[Decimal, Field(ge=Decimal("0.10"))], ...),
            b=(Annotated[timedelta, Field(lt=timedelta(1))], ...),
        )
    )

    assert field(schemas.writes)["x-checks"] == {"ge": "0.10"}
    assert field(schemas.writes, "b")["x-checks"] == {"lt": 86_400_000_000}


def test_moment_knows_its_zone() -> None:
    assert field(schemas_of(event(a=(AwareDatetime, ...))).reads)["x-checks"] == {"tz_constraint": "aware"}


def test_time_that_is_written_as_a_number_is_read_as_one() -> None:
    class Seconds(BaseModel):
        model_config = ConfigDict(ser_json_timedelta="float")
        took: timedelta

    with_number, as_text = (
        schemas_of(event(a=(Seconds, ...))),
        schemas_of(event(a=(create_model("T", took=(timedelta, ...)), ...))),
    )

    assert can_read(with_number.reads, with_number.writes) == ()
    assert [gap.path for gap in can_read(as_text.reads, with_number.writes)] == ["a.took"]


def test_serializer_that_does_not_say_what_it_returns_may_write_anything() -> None:
    def odd(value: int):  # type: ignore[no-untyped-def]
        return {"odd": value}

    schemas = schemas_of(event(a=(Annotated[int, PlainSerializer(odd)], ...)))

    assert field(schemas.writes) == {}


def test_hidden_choice_is_written_all_the_same() -> None:
    hidden: Any = SkipJsonSchema
    schemas = schemas_of(event(a=(int | hidden[None], ...)))

    assert {} in field(schemas.writes)["anyOf"]


def test_titles_and_examples_are_left_out() -> None:
    text = json.dumps(schemas_of(event(title=(int, Field(title="A title", examples=[7])))).reads)

    assert "A title" not in text
    assert "examples" not in text
    assert '"title": {' in text


def test_shape_knows_no_words_and_no_names_of_classes() -> None:
    class Before(BaseModel):
        """One."""

        value: int = 1
        again: "Before | None" = None

    class After(BaseModel):
        """Two."""

        again: "After | None" = None
        value: int = 2

    Before.model_rebuild(_types_namespace={"Before": Before})
    After.model_rebuild(_types_namespace={"After": After})

    assert shape(schemas_of(event(a=(Before, ...))).reads) == shape(schemas_of(event(a=(After, ...))).reads)
    assert shape(schemas_of(event(a=(Before, ...))).reads) != shape(schemas_of(event(a=(Total, ...))).reads)


def test_tag_that_a_function_finds_is_compared_by_its_name() -> None:
    from pydantic import Discriminator, Tag

    def kind(value: Any) -> str:
        return "n" if isinstance(value, dict) else "t"

    union = Annotated[Annotated[Total, Tag("n")] | Annotated[str, Tag("t")], Discriminator(kind)]
    wider = Annotated[
        Annotated[Total, Tag("n")] | Annotated[str, Tag("t")] | Annotated[int, Tag("i")], Discriminator(kind)
    ]
    old, new = schemas_of(event(a=(union, ...))), schemas_of(event(a=(wider, ...)))

    assert can_read(new.reads, old.writes) == ()
    assert [gap.rule for gap in can_read(old.reads, new.writes)] == ["VARIANT_UNKNOWN"]


def test_enum_and_literal_are_the_same_values() -> None:
    class Size(Enum):
        S = "s"

    enum, literal = schemas_of(event(a=(Size, ...))), schemas_of(event(a=(Literal["s"], ...)))

    assert can_read(enum.reads, literal.writes) == can_read(literal.reads, enum.writes) == ()
