"""The NATS servers: the one that runs already, and the newest one, started for the run."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from mediator.transports.nats import NatsTransport
from tests.support.brokers import Brokers
from tests.support.nats import delete_streams
from tests.support.own_nats import NEWEST, NatsServer


@pytest.fixture(scope="session")
def usual_server(brokers: Brokers) -> str:
    """The server that runs already."""
    return brokers.url("nats")


@pytest.fixture(params=["usual", "newest"])
def nats_url(request: pytest.FixtureRequest) -> str:
    """Each of the two in turn."""
    url: str = request.getfixturevalue(f"{request.param}_server")
    return url


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
    with NatsServer(NEWEST) as server:
        server.start()
        yield server.url()
