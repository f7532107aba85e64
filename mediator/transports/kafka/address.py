"""Where Kafka is and what things are called there.

    kafka://broker-1:9092,broker-2:9092?prefix=shop&lanes=16&replication=3
    kafkas://user:password@broker-1:9093?mechanism=SCRAM-SHA-512      (TLS, and a user if there is one)

A topic is called `{prefix}.{topic}` on the broker, or as it is with an empty prefix. Kafka takes letters, digits, dots,
underscores and hyphens, at most 249: a name that is longer or holds something else is shortened, with a hash of the
whole, and the same on every machine.
"""

import re
import ssl
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from mediator.errors import SettingsError

__all__ = ["KafkaAddress", "Names"]

_LONGEST = 249
_HASH = 16
_LEGAL = re.compile(rf"(?!\.{{1,2}}$)[a-zA-Z0-9._-]{{1,{_LONGEST}}}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")
_PREFIX = re.compile(r"[a-zA-Z0-9._-]{0,100}")
_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\[\]]+)(:(?P<port>\d+))?")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_NUMBERS: Final = {"lanes": (16, 1, 1_000), "replication": (0, 0, 32)}
"""Default, least and most of each number in the URL."""


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """What a URL says."""

    servers: tuple[str, ...]
    prefix: str = "mediator"
    lanes: int = 16
    """How many partitions each topic gets that is made."""
    replication: int = 0
    """How many brokers keep each topic that is made; 0 for as many as there are, at most three."""
    tls: bool = False
    mechanism: str = "PLAIN"
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "KafkaAddress":
        """Read a URL; raises SettingsError naming the part that cannot work."""
        parts = urlsplit(url)
        credentials, _, places = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        shown = f"{parts.scheme}://{places}"
        if parts.path.strip("/") or parts.fragment:
            raise SettingsError("transport", shown, "nothing but parameters may follow the brokers: ?prefix=…")
        parameters = _parameters(shown, parts.query)
        return cls(
            servers=_servers(shown, places),
            prefix=_prefix(parameters.get("prefix", "mediator")),
            tls=parts.scheme == "kafkas",
            mechanism=_mechanism(parameters.get("mechanism", "PLAIN")),
            user=unquote(user),
            password=unquote(password),
            **{name: _number(name, parameters.get(name)) for name in _NUMBERS},
        )

    @property
    def shown(self) -> str:
        """Itself without what is secret."""
        return f"{'kafkas' if self.tls else 'kafka'}://{','.join(self.servers)}"

    def options(self) -> dict[str, Any]:
        """What every client is made with."""
        protocol = ("SASL_SSL" if self.tls else "SASL_PLAINTEXT") if self.user else "SSL" if self.tls else "PLAINTEXT"
        options: dict[str, Any] = {"bootstrap_servers": list(self.servers), "security_protocol": protocol}
        if self.tls:
            options["ssl_context"] = ssl.create_default_context()
        if self.user:
            options["sasl_mechanism"] = self.mechanism
            options |= {"sasl_plain_username": self.user, "sasl_plain_password": self.password}
        return options


class Names:
    """What topics and groups of an application are called on the broker, and back."""

    def __init__(self, prefix: str) -> None:
        self._front = f"{prefix}." if prefix else ""
        self._shortened: dict[str, str] = {}
        self.groups = f"{self._front}__groups" if prefix else "__mediator_groups"
        """The topic in which the groups are written down."""

    def of(self, address: str) -> str:
        """The name of a topic or a group."""
        name = self._front + address
        if _LEGAL.fullmatch(name):
            return name
        digest = sha256(name.encode()).hexdigest()[:_HASH]
        shortened = f"{_ILLEGAL.sub('-', name)[: _LONGEST - _HASH - 1]}-{digest}"
        self._shortened[shortened] = address
        return shortened

    def is_shortened(self, address: str) -> bool:
        """Whether its name does not tell it."""
        return self.of(address) != self._front + address

    def address(self, name: str) -> str | None:
        """The address of a topic on the broker; None when it is another application's."""
        if name == self.groups or not name.startswith(self._front):
            return None
        return self._shortened.get(name, name[len(self._front) :])


def _servers(shown: str, places: str) -> tuple[str, ...]:
    servers = []
    for place in places.split(","):
        found = _SERVER.fullmatch(place)
        if found is None or not 0 < int(found["port"] or 9092) < 1 << 16:
            raise SettingsError("transport", shown, f"{place!r} is no broker: use kafka://host:port[,host:port]")
        servers.append(place if found["port"] else f"{place}:9092")
    return tuple(servers)


def _parameters(shown: str, query: str) -> dict[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    known = ("prefix", "mechanism", *_NUMBERS)
    for name in parameters:
        if name not in known:
            raise SettingsError("transport", f"{shown}?{name}=…", f"there is {', '.join(known)}")
    return parameters


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        fix = "use up to 100 letters, digits, dots, underscores and hyphens"
        raise SettingsError("transport ?prefix", text[:120], fix)
    return text


def _mechanism(text: str) -> str:
    if text not in _MECHANISMS:
        raise SettingsError("transport ?mechanism", text[:80], f"use one of {', '.join(_MECHANISMS)}")
    return text


def _number(name: str, text: str | None) -> int:
    default, least, most = _NUMBERS[name]
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise SettingsError(f"transport ?{name}", text[:80], f"use a number from {least} to {most}")
    return int(text)
