"""A pattern means what its segments say, whatever the characters are."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediator.messaging.patterns import is_address, is_wild, listens, matches, wrong_with

LEGAL = "".join(chr(code) for code in range(0x21, 0x7F))
segments = st.text(LEGAL.replace(".", ""), max_size=3) | st.sampled_from(["a", "b", "*", "#"])
addresses = st.lists(segments, min_size=1, max_size=7).map(".".join).filter(is_address)
patterns = st.lists(st.sampled_from(["*", "#", "a", "b"]) | segments, min_size=1, max_size=7).map(".".join)


def naively(pattern: list[str], address: list[str]) -> bool:
    """What the words say, tried in every way."""
    if not pattern:
        return not address
    if pattern[0] == "#":
        return naively(pattern[1:], address) or bool(address and naively(pattern, address[1:]))
    return bool(address) and pattern[0] in ("*", address[0]) and naively(pattern[1:], address[1:])


@given(patterns, addresses)
@example("#.#.a", "a")
@example("a.#.*.#.b", "a.b")
@example("a.*", "a.")
def test_it_matches_as_a_naive_reading_does(pattern: str, address: str) -> None:
    assert matches(pattern, address) == naively(pattern.split("."), address.split("."))


@given(addresses)
def test_every_address_is_matched_by_itself_and_by_everything(address: str) -> None:
    assert matches(address, address)
    assert matches("#", address)
    assert matches(".".join("*" * len(address.split("."))), address)


@pytest.mark.parametrize(
    ("pattern", "address", "matched"),
    [
        ("dev.*.public.orders.v1", "dev.ordering.public.orders.v1", True),
        ("dev.*.public.orders.v1", "dev.ordering.extra.public.orders.v1", False),
        ("dev.ordering.#", "dev.ordering", True),
        ("dev.ordering.#", "dev.ordering.public.orders.v1", True),
        ("dev.ordering.#", "dev.ordering-old.public.orders.v1", False),
        ("#.v1", "dev.billing.public.invoices.v1", True),
        ("#.orders.#", "dev.ordering.public.orders.v1", True),
        ("*", "dev", True),
        ("*", "dev.ordering", False),
        ("dev.o(r)+.[a-z]", "dev.o(r)+.[a-z]", True),
        ("dev.o.b", "dev.oxb", False),
        ("DEV.#", "dev.ordering", False),
    ],
)
def test_examples(pattern: str, address: str, matched: bool) -> None:
    assert matches(pattern, address) is matched


def test_many_hashes_take_no_time_that_grows_with_the_ways_to_read_them() -> None:
    assert not matches("#.a." * 30 + "b", "a." * 120 + "c")


@given(st.text(max_size=12) | patterns)
def test_a_pattern_is_wrong_exactly_if_a_segment_is_empty_or_has_a_wildcard_inside(pattern: str) -> None:
    parts = pattern.split(".")
    good = all(part in ("*", "#") or not set(part) & {"*", "#"} for part in parts) and all(parts)

    assert (wrong_with(pattern) is None) == (good and is_address(pattern))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("dev..orders", "empty segment"),
        (".dev", "empty segment"),
        ("dev.", "empty segment"),
        ("dev.order*", "'order*' has a wildcard inside"),
        ("dev.##", "'##' has a wildcard inside"),
        ("dev.my orders", "printable ASCII"),
        ("dev.bestellungen.ü", "printable ASCII"),
        ("", "1 to 249"),
        ("a" * 250, "1 to 249"),
    ],
)
def test_what_is_wrong_is_said(pattern: str, why: str) -> None:
    assert why in (wrong_with(pattern) or "")


@pytest.mark.parametrize(("pattern", "wild"), [("dev.*", True), ("#", True), ("dev.orders", False), ("a*.b#", False)])
def test_a_wildcard_is_a_whole_segment(pattern: str, wild: bool) -> None:
    assert is_wild(pattern) is wild


def test_topics_are_addresses_and_patterns() -> None:
    topics = frozenset({"dev.a", "dev.b.*"})

    assert [listens(topics, one) for one in ("dev.a", "dev.b.c", "dev.b", "dev.c")] == [True, True, False, False]
