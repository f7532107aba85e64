"""Whatever form a message has, it is read as a CloudEvent in binary mode, or refused with a reason."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mediator.errors import UnreadableMessageError
from mediator.messaging.foreign import ForeignSettings, HeadersFor, in_binary_mode
from mediator.messaging.limits import Limits
from mediator.messaging.transport import Delivery
from tests.messaging.test_cap import CATALOG, HEADERS, TOPIC

BUILT = {"ce-id": "7", "ce-type": "shop.order-placed.v1", "ce-source": "/sensors"}
OURS = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "shop.order-placed.v1", "ce-source": "/shop"}


def read(
    headers: Mapping[str, Any], headers_for: HeadersFor | None = None, body: bytes = b"{}", most: int = 64
) -> tuple[Mapping[str, str], bytes]:
    delivery, settings = Delivery(topic=TOPIC, headers=headers, body=body), ForeignSettings(headers_for=headers_for)
    return in_binary_mode(delivery, settings, CATALOG, Limits(headers=most))


def refused(headers: Mapping[str, Any], *arguments: Any, **options: Any) -> UnreadableMessageError:
    with pytest.raises(UnreadableMessageError) as unreadable:
        read(headers, *arguments, **options)
    return unreadable.value


def never(_delivery: Delivery) -> Mapping[str, str]:
    raise AssertionError("it has headers of its own")


def test_a_cloud_event_stays_as_it_is() -> None:
    assert read(OURS, never) == (OURS, b"{}")


def test_names_are_the_same_in_capital_letters() -> None:
    assert read({name.title(): value for name, value in OURS.items()}) == (OURS, b"{}")


def test_one_name_written_in_two_ways_is_refused() -> None:
    assert refused({**OURS, "CE-Id": "2"}).reason == "headers"


def test_a_cloud_event_with_caps_headers_is_a_cloud_event() -> None:
    assert read({**OURS, **HEADERS}, never)[0] == {**OURS, **HEADERS}


def test_the_content_type_comes_first() -> None:
    document = {"specversion": "1.0", "id": "9", "type": "a.b", "source": "/c", "data": {"total": 1}}

    headers, body = read({**OURS, "content-type": "application/cloudevents+json"}, never, json.dumps(document).encode())

    assert (headers["ce-id"], body) == ("9", b'{"total":1}')


def test_cap_is_not_asked_about() -> None:
    assert read(HEADERS, never)[0]["ce-source"] == "/cap"


def test_what_has_no_headers_gets_those_that_the_application_gives() -> None:
    seen: list[Delivery] = []

    def headers_for(delivery: Delivery) -> Mapping[str, str]:
        seen.append(delivery)
        return {**BUILT, "sensor": "new"}

    headers, body = read({"sensor": "old", "place": "north"}, headers_for, b"raw")

    assert headers == {**BUILT, "ce-specversion": "1.0", "sensor": "new", "place": "north"}
    assert (body, seen[0].body) == (b"raw", b"raw")


def test_none_means_that_it_is_not_known() -> None:
    assert read({"place": "north"}, lambda _: None) == ({"place": "north"}, b"{}")


@pytest.mark.parametrize("answer", [5, [("ce-id", "1")], "ce-id"])
def test_an_answer_that_is_no_mapping_is_refused(answer: Any) -> None:
    assert refused({}, lambda _: answer).reason == "foreign"


def test_so_is_one_that_fails() -> None:
    def failing(_delivery: Delivery) -> Mapping[str, str]:
        raise KeyError("gate")

    error = refused({}, failing)

    assert (error.reason, error.where) == ("foreign", "headers_for")
    assert "KeyError: 'gate'" in error.what


def test_one_that_knows_why_says_it_itself() -> None:
    def failing(_delivery: Delivery) -> Mapping[str, str]:
        raise UnreadableMessageError("gate", "gate", "there is no such gate")

    assert refused({}, failing).reason == "gate"


@pytest.mark.parametrize("built", [{"ce-id": 5}, {"ce-id": "a\nb"}, {f"a{number}": "" for number in range(9)}])
def test_what_is_given_has_the_limits_of_headers(built: dict[str, Any]) -> None:
    assert refused({}, lambda _: built, most=8).reason == "headers"


def test_so_have_the_attributes_of_a_document() -> None:
    document = json.dumps({f"a{number}": "" for number in range(9)}).encode()

    assert refused({"content-type": "application/cloudevents+json"}, body=document, most=8).reason == "headers"
