"""What comes over the wire is read strictly, once, and what is refused is named with its path."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mediator.errors import UnreadableMessageError
from mediator.messaging.limits import Limits, read_json

LIMITS = Limits()
SMALL = Limits(body_bytes=60, depth=3, nodes=6, headers=2, header_name_characters=8, header_value_bytes=10)


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.parametrize(
    ("body", "reason", "where"),
    [
        (b"", "json", "character 0"),
        (b"{", "json", "character 1"),
        (b"[]", "json", "body"),
        (b"1", "json", "body"),
        (b"null", "json", "body"),
        (b'"text"', "json", "body"),
        (b'{"a": 1} x', "json", "character 9"),
        (b'{"a": 1, "a": 2}', "json", "body"),
        (b'{"a": {"b": 1, "b": 1}}', "json", "body"),
        (b'{"a": NaN}', "json", "body"),
        (b'{"a": Infinity}', "json", "body"),
        (b'{"a": -Infinity}', "json", "body"),
        (b'{"a": 1e999}', "json", "body"),
        (b'{"a": -1e999}', "json", "body"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "json", "body"),
        (b'\xef\xbb\xbf{"a": 1}', "json", "character 0"),
        (b'{"a": "\xff"}', "encoding", "byte 7"),
        ('{"a": "ü"}'.encode("utf-16"), "encoding", "byte 0"),
        (b'{"a": "\\u0000"}', "text", "a"),
        (b'{"a": [1, "\\ud800"]}', "text", "a[1]"),
        (b'{"a": {"\\udfff": 1}}', "text", "a"),
        (b'{"a\\u0000": 1}', "text", ""),
        (b'{"a": "\n"}', "json", "character 7"),
        (b"[" * 100_000, "too deep", "body"),
        (b'{"a":' * 50_000, "too deep", "body"),
        (nested(33), "too deep", ".".join("a" * 32)),
        (b'{"a": [' + b"1," * 10_000 + b"1]}", "too many nodes", "body"),
        (b'{"a": "' + b"x" * LIMITS.body_bytes + b'"}', "too large", "body"),
    ],
)
def test_a_bad_body_is_refused_with_its_place(body: bytes, reason: str, where: str) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        read_json(body, LIMITS)
    assert (unreadable.value.reason, unreadable.value.where) == (reason, where)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": "😀"},
        {"": ""},
        {"a": [None, True, 1, 1.5, -1e300]},
        {"list": [0] * (LIMITS.nodes - 2)},
        {"text": "x" * (LIMITS.body_bytes - 12)},
        json.loads(nested(32)),
    ],
)
def test_what_is_just_within_the_limits_is_read(data: dict[str, Any]) -> None:
    assert read_json(json.dumps(data).encode(), LIMITS) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON))
def test_an_object_is_read_as_it_is_or_refused(data: dict[str, Any]) -> None:
    try:
        assert read_json(json.dumps(data).encode(), LIMITS) == data
    except UnreadableMessageError as unreadable:
        assert unreadable.reason == "text"  # noqa: PT017 - a refusal is allowed for NUL and lone surrogates only
        assert "\\u0000" in json.dumps(data) or "\\ud" in json.dumps(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(body: bytes) -> None:
    try:
        assert isinstance(read_json(body, SMALL), dict)
    except UnreadableMessageError as unreadable:
        assert unreadable.reason  # noqa: PT017


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": "' + b"x" * 60 + b'"}', "too large"),
        (nested(4), "too deep"),
        (b'{"a": [1, 2, 3, 4, 5]}', "too many nodes"),
    ],
)
def test_limits_can_be_lowered(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        read_json(body, SMALL)
    assert unreadable.value.reason == reason


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"a": "1", "b": "2", "c": "3"}, "headers"),
        ({"": "1"}, "header ''"),
        ({"x" * 9: "1"}, f"header {'x' * 9!r}"),
        ({"ä": "1"}, "header 'ä'"),
        ({"a\n": "1"}, "header 'a\\n'"),
        ({"a": "x" * 11}, "header 'a'"),
        ({"a": "é" * 6}, "header 'a'"),
        ({"a": "1\r\nx: 2"}, "header 'a'"),
        ({"a": "\0"}, "header 'a'"),
        ({"a": "\x7f"}, "header 'a'"),
        ({"a": "\ud800"}, "header 'a'"),
        ({"a": 1}, "header 'a'"),
        ({"a": b"1"}, "header 'a'"),
    ],
)
def test_bad_headers_are_refused_with_their_name(headers: dict[str, Any], where: str) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        SMALL.check_headers(headers)
    assert (unreadable.value.reason, unreadable.value.where) == ("headers", where)


@pytest.mark.parametrize("headers", [{}, {"a": ""}, {"x" * 8: "x" * 10}, {"a": "é" * 5, "b": "a b"}])
def test_headers_within_the_limits_pass(headers: dict[str, str]) -> None:
    SMALL.check_headers(headers)


@pytest.mark.parametrize(
    "wrong", [{"body_bytes": 0}, {"body_bytes": 1024 * 1024 + 1}, {"depth": 0}, {"depth": 101}, {"unknown": 1}]
)
def test_limits_have_limits(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)


def test_the_defaults_are_those_that_are_promised() -> None:
    assert (LIMITS.body_bytes, LIMITS.depth, LIMITS.nodes) == (256 * 1024, 32, 10_000)
    assert (LIMITS.headers, LIMITS.header_name_characters, LIMITS.header_value_bytes) == (64, 64, 1024)
