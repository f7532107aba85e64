"""The Redis that the tests share."""

import os
from typing import Final

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.databases import Unreachable

__all__ = ["SHARED", "delete_keys", "found"]

_VARIABLE: Final = "MEDIATOR_TEST_REDIS"
SHARED: Final = os.environ.get(_VARIABLE) or "redis://127.0.0.1:6379"
_ANSWER_SECONDS = 5


def found() -> str:
    """Where it is; raises Unreachable."""
    try:
        with BlockingRedis.from_url(SHARED, socket_connect_timeout=_ANSWER_SECONDS) as redis:
            redis.ping()
    except RedisError as error:
        place = SHARED.rpartition("@")[2]
        reason = f"{place} does not answer ({error}): start it, or set {_VARIABLE} to a URL"
        raise Unreachable("redis", reason) from error
    return SHARED


async def delete_keys(url: str, prefix: str) -> None:
    async with Redis.from_url(url) as redis:
        if keys := [key async for key in redis.scan_iter(f"{prefix}*")]:
            await redis.delete(*keys)
