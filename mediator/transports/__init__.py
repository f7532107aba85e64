"""Ways to travel, each over the broker's own client: a file, or a folder per broker, found by the scheme of a URL.

The clients are optional: a transport is imported when its scheme is asked for.
"""

from typing import Final
from urllib.parse import urlsplit

from mediator.errors import SettingsError
from mediator.messaging.transport import Transport
from mediator.storage.database import Database
from mediator.transports.local import LocalBeside
from mediator.transports.memory import MemoryTransport
from mediator.transports.sql import SqlTransport

__all__ = ["LocalBeside", "MemoryTransport", "SqlTransport", "transport_for"]

_EXTRAS: Final = {
    "memory": "",
    "sql": "",
    "redis": "redis",
    "rediss": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "tls": "nats",
    "kafka": "kafka",
    "kafkas": "kafka",
}
"""What has to be installed for each scheme."""


def transport_for(url: str, application: Database | None = None) -> Transport:
    """The transport that a URL names; raises SettingsError when there is none, or its client is not installed.

    What comes behind a + is the transport's business. `sql://` alone means the database of the `application`.
    """
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme not in _EXTRAS:
        known = ", ".join(f"{name}://" for name in _EXTRAS)
        raise SettingsError("transport", f"{scheme}://…", f"this version has {known}")
    try:
        return _made(scheme, url, application)
    except ModuleNotFoundError as error:
        fix = f"its client {error.name} is not installed: pip install 'mediator-toolkit[{_EXTRAS[scheme]}]'"
        raise SettingsError("transport", f"{scheme}://…", fix) from error


def _made(scheme: str, url: str, application: Database | None) -> Transport:
    match _EXTRAS[scheme] or scheme:
        case "memory":
            return MemoryTransport()
        case "sql":
            return SqlTransport.from_url(url, application)
        case "redis":
            from mediator.transports.redis import RedisTransport

            return RedisTransport(url)
        case "rabbitmq":
            from mediator.transports.rabbitmq import RabbitMQTransport

            return RabbitMQTransport(url)
        case "nats":
            from mediator.transports.nats import NatsTransport

            return NatsTransport(url)
        case _:
            from mediator.transports.kafka import KafkaTransport

            return KafkaTransport(url)
