"""Ways to travel: one file per transport, each over the broker's own client, found by the scheme of a URL."""

from urllib.parse import urlsplit

from mediator.errors import SettingsError
from mediator.messaging.transport import Transport
from mediator.transports.memory import MemoryTransport

__all__ = ["MemoryTransport", "transport_for"]


def transport_for(url: str) -> Transport:
    """The transport that a URL names."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryTransport()
    raise SettingsError("transport", f"{scheme}://…", "this version has memory:// (in process)")
