"""The wire form: what an envelope says survives as headers, whatever its texts hold; what is wrong is named."""

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ContractError, IntegrationEvent, event_topic, topic_of
from mediator.errors import UnreadableMessageError
from mediator.messaging.cloudevents import FOREIGN_ID, encoded, from_headers, to_headers
from mediator.messaging.envelope import DEPRECATION_HEADERS, Envelope

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
SEGMENT = r"[a-z0-9]+(-[a-z0-9]+)*"
OWN_HEADERS = st.dictionaries(
    st.from_regex(r"[a-z0-9!#$&'*+.^_`|~-]{1,40}", fullmatch=True).filter(
        lambda name: not name.startswith("ce-") and name != "content-type"
    ),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60),
    max_size=5,
)
ENVELOPES = st.builds(
    Envelope,
    event_id=st.uuids(),
    topic=st.just("test.shop.public.orders.v1"),
    type=st.from_regex(rf"{SEGMENT}\.{SEGMENT}", fullmatch=True).filter(lambda name: len(name) <= 100),
    version=st.integers(1, 999_999).map(lambda number: f"v{number}"),
    body=st.binary(max_size=20),
    occurred_on=st.datetimes(timezones=st.just(UTC)),
    source=st.builds("/{}/{}".format, TEXT, TEXT),
    key=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    causation_id=st.none() | TEXT,
    traceparent=st.none() | TEXT,
    callback=st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60),
    headers=OWN_HEADERS,
    deprecation=st.dictionaries(st.sampled_from(DEPRECATION_HEADERS), TEXT),
)
ENVELOPE = Envelope(
    event_id=UUID("01990000-0000-7000-8000-000000000001"),
    topic="test.shop.public.orders.v1",
    type="shop.order-placed",
    version="v1",
    body=b"{}",
    occurred_on=datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
    source="/shop/ordering",
    key="order 1",
    correlation_id="c-1",
    headers={"tenant": "Zoë"},
)


@given(ENVELOPES)
def test_an_envelope_survives_its_headers(envelope: Envelope) -> None:
    assert from_headers(envelope.topic, to_headers(envelope), envelope.body) == envelope


@given(ENVELOPES)
def test_headers_are_printable_ascii_without_spaces(envelope: Envelope) -> None:
    for name, value in to_headers(envelope).items():
        assert name.isascii()
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
        assert '"' not in value


def test_the_headers_are_those_of_cloudevents() -> None:
    assert to_headers(ENVELOPE) == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "01990000-0000-7000-8000-000000000001",
        "ce-source": "/shop/ordering",
        "ce-type": "shop.order-placed.v1",
        "ce-time": "2026-01-31T12:30:00+00:00",
        "ce-partitionkey": "order%201",
        "ce-correlationid": "c-1",
        "tenant": "Zo%C3%AB",
    }


def test_an_event_without_a_version_has_none_in_its_type() -> None:
    envelope = dataclasses.replace(ENVELOPE, version="")

    assert to_headers(envelope)["ce-type"] == "shop.order-placed"
    assert from_headers(envelope.topic, to_headers(envelope), b"{}") == envelope


@pytest.mark.parametrize("version", ["v1", "v20260131", ""])
@pytest.mark.parametrize("name", ["order-placed", "v2", "x" * 100])
def test_every_name_that_a_contract_may_have_is_understood(name: str, version: str) -> None:
    try:

        @event_topic("orders", domain="shop", version=version, name=name)
        class Placed(IntegrationEvent):
            pass
    except ContractError:
        return  # refused where it is written is as good

    topic = topic_of(Placed)
    envelope = dataclasses.replace(ENVELOPE, type=topic.type, version=topic.version)

    assert from_headers(envelope.topic, to_headers(envelope), b"{}") == envelope


@pytest.mark.parametrize("header", ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time"])
def test_a_missing_header_is_named(header: str) -> None:
    headers = to_headers(ENVELOPE)
    del headers[header]

    with pytest.raises(UnreadableMessageError) as unreadable:
        from_headers("topic", headers, b"{}")
    assert (unreadable.value.reason, unreadable.value.where) == ("header missing", header)


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("ce-specversion", "0.3", "specversion"),
        ("ce-specversion", "", "specversion"),
        ("ce-id", "", "identity"),
        ("ce-id", "x" * 201, "identity"),
        ("ce-id", "%ff", "encoding"),
        ("ce-id", "01990000-0000-7000-8000-000000000001\n", "encoding"),
        ("ce-partitionkey", "x" * 201, "headers"),
        ("ce-correlationid", "%20" * 201, "headers"),
        ("ce-type", "", "type"),
        ("ce-type", "Shop.OrderPlaced", "type"),
        ("ce-type", "shop..order", "type"),
        ("ce-type", "os.system('x')", "type"),
        ("ce-type", "a" * 161, "type"),
        ("ce-time", "yesterday", "time"),
        ("ce-time", "2026-01-31T12:30:00", "time"),
        ("ce-time", "0001-01-01T00:00:00+14:00", "time"),
        ("ce-time", "9999-12-31T23:59:59-14:00", "time"),
        ("ce-partitionkey", "%ff", None),
        ("ce-partitionkey", "%00", None),
        ("ce-correlationid", "%ed%a0%80", None),
        ("ce-correlationid", "%0a", None),
        ("ce-causationid", "%ff", None),
        ("ce-traceparent", "%c3%28", None),
        ("ce-source", "%00", None),
    ],
)
def test_a_wrong_header_is_named(header: str, value: str, reason: str | None) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        from_headers("topic", {**to_headers(ENVELOPE), header: value}, b"{}")
    assert unreadable.value.where == header
    if reason is not None:
        assert unreadable.value.reason == reason


@pytest.mark.parametrize("identity", ["42", "0199000000007000800000000000000a", "1" * 200, "a b", "Zoë", "１", "../x"])
def test_an_id_that_is_no_uuid_becomes_one_that_is_always_the_same(identity: str) -> None:
    headers = {**to_headers(ENVELOPE), "ce-id": encoded(identity)}

    first, again = (from_headers("topic", headers, b"{}") for _ in range(2))
    elsewhere = from_headers("topic", {**headers, "ce-source": "/somebody/else"}, b"{}")

    assert first.event_id == again.event_id != elsewhere.event_id
    assert first.event_id.version == 5
    assert first.headers == {**ENVELOPE.headers, FOREIGN_ID: identity}
    assert from_headers("topic", to_headers(first), b"{}") == first


def test_ids_and_sources_cannot_be_shifted_into_one_another() -> None:
    def mapped(source: str, identity: str) -> UUID:
        return from_headers("t", {**to_headers(ENVELOPE), "ce-source": source, "ce-id": identity}, b"{}").event_id

    assert mapped("/a", "b") == UUID("d3c5c1ce-a6ca-5830-95ff-5e6e498cb5b8")
    assert len({mapped("/a", "bc"), mapped("/ab", "c"), mapped("/a/b", "c"), mapped("/a", "b/c")}) == 4


def test_a_uuid_is_the_same_in_capital_letters() -> None:
    headers = {**to_headers(ENVELOPE), "ce-id": str(ENVELOPE.event_id).upper()}

    assert from_headers("topic", headers, ENVELOPE.body) == dataclasses.replace(ENVELOPE, topic="topic")


@pytest.mark.parametrize("header", ["ce-partitionkey", "ce-correlationid"])
def test_an_empty_key_or_correlation_is_none(header: str) -> None:
    envelope = from_headers("topic", {**to_headers(ENVELOPE), header: ""}, b"{}")

    assert {"ce-partitionkey": envelope.key, "ce-correlationid": envelope.correlation_id}[header] is None


def test_what_the_headers_do_not_tell_comes_from_the_arrival() -> None:
    headers = {
        name: value for name, value in to_headers(ENVELOPE).items() if name not in {"ce-time", "ce-partitionkey"}
    }
    arrived = datetime(2026, 2, 1, tzinfo=UTC)

    envelope = from_headers("topic", headers, b"{}", key="k", arrived=arrived)

    assert (envelope.occurred_on, envelope.key) == (arrived, "k")
    told = from_headers("topic", to_headers(ENVELOPE), b"{}", key="k", arrived=arrived)
    assert (told.occurred_on, told.key) == (ENVELOPE.occurred_on, ENVELOPE.key)


@given(st.dictionaries(st.sampled_from([*to_headers(ENVELOPE), "tenant", "other"]), st.text(max_size=30)))
def test_whatever_the_headers_say_it_is_read_or_refused(wrong: dict[str, str]) -> None:
    try:
        envelope = from_headers("topic", {**to_headers(ENVELOPE), **wrong}, b"{}")
    except UnreadableMessageError:
        return
    assert from_headers("topic", to_headers(envelope), b"{}") == envelope
