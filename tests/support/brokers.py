"""Brokers that the tests share, and a place of its own for each test on them.

    with Brokers() as brokers, brokers.new_place("redis") as place:
        transport_for(place.url)

A broker is looked for when it is needed for the first time: where its variable (MEDIATOR_TEST_REDIS) says, or where it
usually is on this machine. One of Kafka usually is not: without a variable, it is started for the run.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Self

from tests.support import kafka, nats, rabbitmq, redis
from tests.support.databases import Unreachable, in_a_thread
from tests.support.own_kafka import KafkaServer

__all__ = ["BROKERS", "BrokerPlace", "Brokers"]


@dataclass(frozen=True)
class BrokerPlace:
    """Where nobody else publishes."""

    name: str
    url: str


class Brokers:
    """Finds each broker once, or starts it."""

    def __init__(self) -> None:
        self._found: dict[str, str | Unreachable] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def url(self, name: str) -> str:
        """Where a broker is; raises Unreachable."""
        if name not in self._found:
            try:
                self._found[name] = self._exit.enter_context(_FINDING[name]())
            except Unreachable as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, Unreachable):
            raise found
        return found

    @contextmanager
    def new_place(self, name: str) -> Iterator[BrokerPlace]:
        """A prefix on a broker; what was made there is removed at the end. Raises Unreachable."""
        if name == "sql":
            # The test's database is removed as a whole.
            yield BrokerPlace(name, "sql://?lanes=8")
            return
        prefix = f"test-{uuid.uuid4().hex[:12]}"
        with _CLEANING[name](self.url(name), prefix) as url:
            yield BrokerPlace(name, f"{url}?prefix={prefix}&lanes=8")


@contextmanager
def _kafka() -> Iterator[str]:
    if url := os.environ.get("MEDIATOR_TEST_KAFKA"):
        yield url.rstrip("/")
        return
    with KafkaServer() as server:
        server.start()
        yield server.url()


@contextmanager
def _clean_kafka(url: str, prefix: str) -> Iterator[str]:
    try:
        yield url
    finally:
        in_a_thread(kafka.delete_topics(url, f"{prefix}."))


@contextmanager
def _clean_nats(url: str, prefix: str) -> Iterator[str]:
    try:
        yield url
    finally:
        in_a_thread(nats.delete_streams(url, prefix))


@contextmanager
def _clean_redis(url: str, prefix: str) -> Iterator[str]:
    try:
        yield url
    finally:
        in_a_thread(redis.delete_keys(url, f"{prefix}:"))


_FINDING: Final[dict[str, Callable[[], AbstractContextManager[str]]]] = {
    "redis": lambda: nullcontext(redis.found()),
    "rabbitmq": lambda: nullcontext(rabbitmq.found()),
    "nats": lambda: nullcontext(nats.found()),
    "kafka": _kafka,
}
_CLEANING: Final[dict[str, Callable[[str, str], AbstractContextManager[str]]]] = {
    "redis": _clean_redis,
    "rabbitmq": lambda url, _prefix: rabbitmq.cleaned(url),
    "nats": _clean_nats,
    "kafka": _clean_kafka,
}
BROKERS: Final = ("sql", *_FINDING)
