"""A place of a test's own on every transport, with what was made there removed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from mediator.messaging.transport import Transport
from tests.support.brokers import new_place
from tests.support.databases import in_a_thread
from tests.support.kafka import delete_topics, running
from tests.support.rabbitmq import SHARED, Recorded, look_for_broker, removed

__all__ = ["PLACES", "Place", "place_on"]

PLACES: Final = ("memory", "sql", "redis", "amqp", "nats", "kafka")
"""Schemes of URLs."""


@dataclass(frozen=True)
class Place:
    """Where nobody else publishes."""

    name: str
    url: str

    def transport(self) -> Transport | str:
        """What an application is made with; a new one for each."""
        return Recorded(self.url) if self.name == "amqp" else self.url


@contextmanager
def place_on(name: str) -> Iterator[Place]:
    """A place on a broker; raises Unreachable."""
    prefix = f"test-{uuid4().hex[:12]}"
    match name:
        case "memory":
            yield Place(name, "memory://")
        case "amqp":
            look_for_broker()
            try:
                yield Place(name, f"{SHARED}?prefix={prefix}&lanes=2")
            finally:
                in_a_thread(removed(prefix))
        case "kafka":
            with running() as url:
                try:
                    yield Place(name, f"{url}?prefix={prefix}&lanes=2")
                finally:
                    in_a_thread(delete_topics(url, prefix))
        case _:
            with new_place(name) as place:
                yield Place(name, place.url)
