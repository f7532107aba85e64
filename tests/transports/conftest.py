"""The NATS servers: the one that runs already, and the newest one, started for the run."""

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import nats.errors
import pytest
import pytest_asyncio

from mediator.transports.nats import NatsTransport
from tests.support.databases import Unreachable, in_a_thread
from tests.support.nats import api, delete_streams, server_url
from tests.support.own_nats import NEWEST, NatsServer


@pytest.fixture(scope="session")
def usual_server() -> str:
    """The server that runs already."""
    url = os.environ.get("MEDIATOR_TEST_NATS") or "nats://127.0.0.1:4222"
    try:
        in_a_thread(api(url, "INFO"))
    except (OSError, nats.errors.Error) as error:
        reason = f"{url.rpartition('@')[2]} does not answer ({error}): start it, or set MEDIATOR_TEST_NATS to a URL"
        return f"missing: {reason}"
    return url


@pytest.fixture(params=["usual", "newest"])
def nats_url(request: pytest.FixtureRequest) -> str:
    """Each of the two in turn."""
    return server_url(request, request.param)


@pytest_asyncio.fixture
async def nats_transport(nats_url: str) -> AsyncIterator[NatsTransport]:
    """Open, with streams of the test's own."""
    prefix = f"trial-{uuid4().hex[:12]}"
    transport = NatsTransport(f"{nats_url}?prefix={prefix}&lanes=2")
    await transport.open()
    yield transport
    await transport.close()
    await delete_streams(nats_url, prefix)


@pytest.fixture(scope="session")
def newest_server() -> Iterator[str]:
    try:
        with NatsServer(NEWEST) as server:
            server.start()
            yield server.url()
    except Unreachable as error:
        yield f"missing: {error}"
