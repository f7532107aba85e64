"""Patterns of topics: what a handler listens to, segment by segment.

    dev.ordering.public.orders.v1     this address
    dev.ordering.*.orders.v1          `*` is any one segment
    dev.ordering.#                    `#` is any number of segments, also none

A segment is what stands between two dots, in whatever characters a publisher may use. `*` and `#` mean something only
where they are a whole segment; a pattern that has them inside of one is refused, for it would never match what its
author had in mind.
"""

from collections.abc import Collection, Iterable

from contracts.topics import MAX_ADDRESS_LENGTH

__all__ = ["is_address", "is_wild", "listens", "matches", "wrong_with"]

_WILD = frozenset("*#")


def is_address(text: str) -> bool:
    """Whether events can be published to it: printable ASCII without a space, and not too long."""
    return 0 < len(text) <= MAX_ADDRESS_LENGTH and text.isascii() and text.isprintable() and " " not in text


def is_wild(pattern: str) -> bool:
    """Whether a pattern may match several addresses."""
    return not _WILD.isdisjoint(pattern.split("."))


def wrong_with(pattern: str) -> str | None:
    """Why a pattern cannot work; None when it can."""
    if not is_address(pattern):
        return f"it is not made of 1 to {MAX_ADDRESS_LENGTH} printable ASCII characters without a space"
    for segment in pattern.split("."):
        if not segment:
            return "it has an empty segment"
        if segment not in _WILD and not _WILD.isdisjoint(segment):
            return f"its segment {segment!r} has a wildcard inside"
    return None


def matches(pattern: str, address: str) -> bool:
    """Whether an address is one of those that a pattern means."""
    segments = pattern.split(".")
    # How far into the pattern what was read so far may have come: several ways at once, so nothing is read twice.
    reached = set(_past_hashes(segments, 0))
    for found in address.split("."):
        reached = {
            after
            for at in reached
            if at < len(segments) and segments[at] in ("*", "#", found)
            for after in _past_hashes(segments, at if segments[at] == "#" else at + 1)
        }
    return len(segments) in reached


def listens(topics: Collection[str], address: str) -> bool:
    """Whether an address is one of `topics`, or a pattern among them means it."""
    return address in topics or any(is_wild(topic) and matches(topic, address) for topic in topics)


def _past_hashes(segments: list[str], at: int) -> Iterable[int]:
    # A `#` may mean no segment at all.
    yield at
    while at < len(segments) and segments[at] == "#":
        at += 1
        yield at
