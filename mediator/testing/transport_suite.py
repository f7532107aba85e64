"""The conformance suite: every promise of the transport protocol as a test, for whoever writes a transport.

    class TestRedis(TransportSuite):
        def make_transport(self, application: str) -> Transport:
            return RedisTransport(f"redis://127.0.0.1:6379?prefix={application}&lanes=4")

        async def clean_up(self, application: str) -> None:
            ...  # remove what was made on the broker

What the transport does not have is declared in the class, and the tests of it are not collected. A declaration that is
not true fails. Tests are coroutines marked for pytest-asyncio; every one has an application, and so topics and groups,
of its own.
"""

import pytest

# Before they are imported, so that a failed assertion shows what was compared.
pytest.register_assert_rewrite("mediator.testing.conformance")

from mediator.testing.conformance.connection import ConnectionPromises  # noqa: E402
from mediator.testing.conformance.delivering import DeliveringPromises  # noqa: E402
from mediator.testing.conformance.lanes import LanePromises  # noqa: E402
from mediator.testing.conformance.provisioning import ProvisioningPromises  # noqa: E402
from mediator.testing.conformance.publishing import PublishingPromises  # noqa: E402
from mediator.testing.conformance.settling import SettlingPromises  # noqa: E402
from mediator.testing.conformance.sharing import SharingPromises  # noqa: E402

__all__ = ["TransportSuite"]


class TransportSuite(
    PublishingPromises,
    DeliveringPromises,
    SettlingPromises,
    SharingPromises,
    LanePromises,
    ProvisioningPromises,
    ConnectionPromises,
):
    """Subclass it in a test module and say how to make the transport."""
