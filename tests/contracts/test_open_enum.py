"""An open enum keeps a value that it does not know, as the text that it was."""

import copy
import gc
import json
import pickle
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from contracts import IntegrationEvent, OpenEnum, PartitionKey, partition_key_of


class Channel(OpenEnum):
    """How an order came in."""

    WEB = "web"
    SHOP = "shop"


class Lamp(OpenEnum):
    """With one member."""

    ON = "on"


class OrderPlaced(IntegrationEvent):
    channel: Annotated[Channel, PartitionKey()]
    counts: dict[Channel, int] = Field(default_factory=dict)
    others: tuple[Channel, ...] = ()


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    event = OrderPlaced.model_validate({"channel": text, "counts": {text: 1}, "others": [text, "web"]})

    assert OrderPlaced.model_validate_json(event.model_dump_json()) == event
    assert OrderPlaced.model_validate(event.model_dump()) == event
    assert json.loads(event.model_dump_json())["channel"] == text
    assert json.loads(event.model_dump_json())["counts"] == {text: 1}
    assert event.model_dump(mode="json")["others"] == [text, "web"]


def test_an_unknown_value_is_like_its_text() -> None:
    kiosk = Channel("kiosk")

    assert kiosk == "kiosk" == kiosk.value == str(kiosk) == f"{kiosk}"
    assert kiosk == Channel("kiosk")
    assert kiosk != Channel.WEB
    assert {"kiosk": 1}[kiosk] == 1
    assert hash(kiosk) == hash("kiosk")
    assert json.dumps(kiosk) == '"kiosk"'
    assert sorted([kiosk, Channel.WEB, Channel.SHOP]) == ["kiosk", "shop", "web"]
    assert repr(kiosk) == "<Channel unknown: 'kiosk'>"
    assert isinstance(kiosk, Channel)


def test_it_tells_whether_it_knows_a_value() -> None:
    assert Channel("web") is Channel.WEB
    assert Channel.WEB.is_known
    assert not Channel("kiosk").is_known
    assert not Channel("WEB").is_known, "the name of a member is no value"
    assert repr(Channel.WEB) == "<Channel.WEB: 'web'>"


def test_it_can_be_matched() -> None:
    def told(channel: Channel) -> str:
        match channel.value:
            case Channel.WEB:
                return "known"
            case "kiosk":
                return "unknown, yet expected"
            case _:
                return "unknown"

    assert [told(Channel(text)) for text in ("web", "kiosk", "fax")] == ["known", "unknown, yet expected", "unknown"]


@pytest.mark.parametrize("value", [Channel.WEB, Channel("kiosk"), Channel("")])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_is_equal(value: Channel, again: Any) -> None:
    copied = again(value)

    assert copied == value
    assert type(copied) is Channel
    assert copied.is_known is value.is_known


@pytest.mark.parametrize("value", [5, None, True, ["web"], {"web": 1}, 1.5])
def test_only_texts_are_values(value: Any) -> None:
    with pytest.raises(ValidationError, match="channel"):
        OrderPlaced.model_validate({"channel": value})
    with pytest.raises(ValidationError, match="channel"):
        OrderPlaced.model_validate_json(json.dumps({"channel": value}))
    with pytest.raises((ValueError, TypeError)):
        Channel(value)


@pytest.mark.parametrize("enum", [Channel, Lamp])
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_its_schema_is_an_open_string(enum: type[OpenEnum], mode: Any) -> None:
    class Seen(IntegrationEvent):
        field: enum  # type: ignore[valid-type]

    schema = Seen.model_json_schema(mode=mode)["$defs"][enum.__name__]

    known = [member.value for member in enum]
    assert {name: schema[name] for name in schema if name != "description"} == {
        "title": enum.__name__,
        "type": "string",
        "examples": known,
        "x-known-values": known,
    }


def test_an_unknown_value_can_be_a_partition_key() -> None:
    assert partition_key_of(OrderPlaced(channel=Channel("kiosk"))) == "~ekiosk"
    assert partition_key_of(OrderPlaced(channel=Channel.WEB)) == "~eweb"


def test_unknown_values_are_not_remembered() -> None:
    for number in range(1_000):
        OrderPlaced.model_validate_json(f'{{"channel": "hostile-{number}"}}')

    gc.collect()
    assert list(Channel) == [Channel.WEB, Channel.SHOP]
    assert set(Channel._value2member_map_) == {"web", "shop"}
    assert not [one for one in gc.get_objects() if isinstance(one, Channel) and one.startswith("hostile-")]
