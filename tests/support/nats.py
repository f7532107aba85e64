"""What the tests of the NATS transport have in common: the server that runs already, and what is said to one."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client

from mediator.transports.nats import NatsTransport
from tests.support.databases import Unreachable, in_a_thread

__all__ = ["api", "cut", "delete_streams", "found", "plain"]

_VARIABLE: Final = "MEDIATOR_TEST_NATS"


def found() -> str:
    """Where the server is that runs already; raises Unreachable."""
    url = os.environ.get(_VARIABLE) or "nats://127.0.0.1:4222"
    try:
        in_a_thread(api(url, "INFO"))
    except (OSError, nats.errors.Error) as error:
        reason = f"{url.rpartition('@')[2]} does not answer ({error}): start it, or set {_VARIABLE} to a URL"
        raise Unreachable("nats", reason) from error
    return url


async def api(url: str, subject: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """What JetStream says to a request, on a connection of its own."""
    async with plain(url) as client:
        answer = await client.request(f"$JS.API.{subject}", json.dumps(about or {}).encode(), timeout=5)
        found: dict[str, Any] = json.loads(answer.data)
        return found


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Client]:
    async def ignore(_error: Exception) -> None:
        """It is raised as well."""

    client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=ignore)
    try:
        yield client
    finally:
        await client.close()


async def delete_streams(url: str, prefix: str) -> None:
    for name in (prefix, f"{prefix}-topics"):
        await api(url, f"STREAM.DELETE.{name}")  # an error as its answer is as good


async def cut(transport: NatsTransport) -> None:
    """Cut its connection, once what was said on it so far has arrived; returns when that was noticed."""
    client = transport._connection.client
    await client.flush()
    client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
    while transport._connection._client is client:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
