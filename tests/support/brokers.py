"""Brokers that the tests share, and a place of its own for each test on them."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from tests.support.nats import delete_streams

__all__ = ["BROKERS", "BrokerPlace", "new_place"]

NATS: Final = os.environ.get("MEDIATOR_TEST_NATS") or "nats://127.0.0.1:4222"
REDIS: Final = os.environ.get("MEDIATOR_TEST_REDIS") or "redis://127.0.0.1:6379"


@dataclass(frozen=True)
class BrokerPlace:
    """Where nobody else publishes."""

    name: str
    url: str


async def _clean_nats(prefix: str) -> None:
    await delete_streams(NATS, prefix)


async def _clean_redis(prefix: str) -> None:
    async with Redis.from_url(REDIS) as redis:
        if keys := [key async for key in redis.scan_iter(f"{prefix}:*")]:
            await redis.delete(*keys)


async def _clean_nothing(_prefix: str) -> None:
    """The test's database is removed as a whole."""


_URLS: Final[dict[str, Callable[[str], str]]] = {
    "sql": lambda _prefix: "sql://?lanes=8",
    "redis": lambda prefix: f"{REDIS}?prefix={prefix}&lanes=8",
    "nats": lambda prefix: f"{NATS}?prefix={prefix}&lanes=8",
}
_CLEANING: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "sql": _clean_nothing,
    "redis": _clean_redis,
    "nats": _clean_nats,
}
BROKERS: Final = tuple(_URLS)


@contextmanager
def new_place(name: str) -> Iterator[BrokerPlace]:
    """A prefix on a broker; what was made there is removed at the end."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    try:
        yield BrokerPlace(name, _URLS[name](prefix))
    finally:
        asyncio.run(_cleaned(name, prefix))


async def _cleaned(name: str, prefix: str) -> None:
    await _CLEANING[name](prefix)
