"""Fields that a reader does not know are ignored and counted, wherever they stand."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel, computed_field

from contracts import IntegrationEvent
from mediator.messaging.unknown_fields import UnknownFields


class Part(BaseModel):
    name: str = ""


class Line(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    sku: str = Field(default="", alias="article")
    parts: tuple[Part, ...] = ()
    below: "Line | None" = None


class Parts(RootModel[tuple[Part, ...]]):
    pass


class Placed(IntegrationEvent):
    number: int = 0
    either: Part | str = ""
    street: str = Field(default="", validation_alias=AliasChoices("street", "road"))
    lines: tuple[Line, ...] = ()
    by_name: Mapping[str, Part] = Field(default_factory=dict)
    extra: dict[str, int] = Field(default_factory=dict)
    parts: Parts = Parts(())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return self.number * 2


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ({}, 0),
        ({"number": 1, "event_id": "01a20633-65bd-7204-8426-a8610b71047f", "correlation_id": None}, 0),
        ({"number": 1, "colour": "red"}, 1),
        ({"colour": "red", "size": None, "nested": {"a": 1, "b": 2}}, 3),
        ({"road": "x"}, 0),
        ({"doubled": 2}, 0),
        ({"lines": [{"article": "a"}, {"sku": "b"}]}, 0),
        ({"lines": [{"article": "a", "colour": 1}, {"colour": 2, "size": 3}]}, 3),
        ({"lines": [{"parts": [{"name": "p", "new": 1}]}]}, 1),
        ({"lines": [{"below": {"below": {"new": 1}}}]}, 1),
        ({"by_name": {"a": {"new": 1}, "b": {}}}, 1),
        ({"extra": {"anything": 1}}, 0),
        ({"parts": [{"new": 1}, {"name": ""}]}, 1),
        ({"either": {"new": 1}}, 1),
        ({"either": "text"}, 0),
    ],
)
def test_every_member_that_no_model_knows_counts(data: dict[str, Any], count: int) -> None:
    assert UnknownFields().count(Placed.model_validate(data), data) == count


def test_what_a_publisher_of_the_same_contract_writes_is_known() -> None:
    event = Placed(lines=(Line(article="a", parts=(Part(),)),), by_name={"a": Part()})

    assert UnknownFields().count(event, event.model_dump(mode="json")) == 0
