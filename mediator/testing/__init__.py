"""For tests of applications that use the toolkit, and of transports.

`TransportSuite` needs pytest and pytest-asyncio, so it is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from mediator.testing.failpoints import FAILPOINTS, kill_at

if TYPE_CHECKING:
    from mediator.testing.transport_suite import TransportSuite

__all__ = ["FAILPOINTS", "TransportSuite", "kill_at"]


def __getattr__(name: str) -> Any:
    if name == "TransportSuite":
        from mediator.testing.transport_suite import TransportSuite

        return TransportSuite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
