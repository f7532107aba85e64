"""What a URL says: where the broker is, how names begin there, and how many lanes there are.

amqps://user:password@broker:5671/vhost?prefix=shop&lanes=16&heartbeat=10&cafile=ca.pem
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from mediator.errors import SettingsError

__all__ = ["Address", "address_of"]

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_FILES: Final = ("cafile", "certfile", "keyfile")
_MOST_LANES, _LONGEST_HEARTBEAT = 128, 600
_PREFIX: Final = re.compile(r"(?!amq\.)[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where and how."""

    scheme: str
    place: str
    """For messages: scheme, host and port, and nothing that is secret."""
    prefix: str
    lanes: int
    _parts: SplitResult = field(repr=False)
    _options: Mapping[str, str] = field(repr=False)

    def url(self, purpose: str) -> str:
        """What the client connects to; the broker shows what the connection is for."""
        query = urlencode({**self._options, "name": f"{self.prefix} ({purpose})"})
        return urlunsplit(self._parts._replace(query=query, fragment=""))


def address_of(url: str) -> Address:
    """Read a URL; raises SettingsError naming what is wrong with it."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://…"
    try:
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        fix = "the port is no number; in a password, write : / ? # @ as %3A %2F %3F %23 %40"
        raise SettingsError("transport", shown, fix) from error
    if not host or parts.fragment:
        raise SettingsError("transport", shown, f"write {parts.scheme}://user:password@host:port/vhost")
    options = _options(parts)
    prefix = options.pop("prefix", "mediator")
    if not _PREFIX.fullmatch(prefix):
        fix = "use up to 60 of A-Z, a-z, 0-9, dot, hyphen and underscore, and not amq. in front"
        raise SettingsError("transport, prefix", prefix, fix)
    lanes = _number("lanes", options.pop("lanes", "16"), _MOST_LANES)
    options["heartbeat"] = str(_number("heartbeat", options.get("heartbeat", "10"), _LONGEST_HEARTBEAT))
    shown_host = f"[{host}]" if ":" in host else host
    return Address(parts.scheme, f"{parts.scheme}://{shown_host}:{port}", prefix, lanes, parts, options)


def _options(parts: SplitResult) -> dict[str, str]:
    known = ("prefix", "lanes", "heartbeat", *(_FILES if parts.scheme == "amqps" else ()))
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise SettingsError(f"transport, {name[:40]}", value[:80], f"{parts.scheme}:// takes {', '.join(known)}")
        if name in options or not value:
            raise SettingsError(f"transport, {name}", value[:80], "say it once, and with a value")
        options[name] = value
    return options


def _number(name: str, text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise SettingsError(f"transport, {name}", text[:80], f"use a number from 1 to {most}")
    return int(text)
