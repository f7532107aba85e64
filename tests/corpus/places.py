"""A place of a test's own on every transport, with what was made there removed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tests.support.brokers import BROKERS, Brokers

__all__ = ["PLACES", "Place", "place_on"]

PLACES: Final = ("memory", *BROKERS)


@dataclass(frozen=True)
class Place:
    """Where nobody else publishes."""

    url: str

    @property
    def name(self) -> str:
        """The scheme of its URL, by which the corpus names brokers."""
        return urlsplit(self.url).scheme


@contextmanager
def place_on(brokers: Brokers, name: str) -> Iterator[Place]:
    """A place on a broker; raises Unreachable."""
    if name == "memory":
        yield Place("memory://")
        return
    with brokers.new_place(name) as place:
        yield Place(place.url)
