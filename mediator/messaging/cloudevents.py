"""The wire form: CloudEvents 1.0 in binary mode, attributes as headers and the event as the body.

    ce-specversion: 1.0                          ce-id: 0199…                ce-source: /shop/ordering
    ce-type: ordering.order-placed.v1            ce-time: 2026-01-31T…Z      ce-partitionkey: …
    ce-correlationid: …                          ce-causationid: …           ce-callback: …
    content-type: application/json

Extension names are lower-case letters and digits, as the specification asks. Values are percent-encoded as its HTTP
binding asks, so that every header is printable ASCII on every broker; where a binding wants them plain, the transport
sees to it. The publisher's own headers travel beside them.

Of others an id may be any text: source and id make the UUID that the inbox goes by, the same one every time, and the
id as it was stays as the header `foreign-id`. Their events need no time; the moment of the arrival stands in for it.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import UUID, uuid5

from mediator.errors import UnreadableMessageError
from mediator.messaging.envelope import DEPRECATION_HEADERS, LONGEST_TEXT, Envelope
from mediator.messaging.patterns import is_address

__all__ = ["FOREIGN_ID", "encoded", "from_headers", "to_headers"]

FOREIGN_ID = "foreign-id"
"""The header with the id that somebody else gave an event, where it is no UUID."""

# Printable ASCII but space, double quote and percent may stand for themselves (HTTP binding, 3.1.3.2). Most values are
# nothing else, and it is much cheaper to see that than to quote them.
_PLAIN = re.compile(r"[!#$&-~]*")
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_EXTENSIONS = {
    "ce-partitionkey": "key",
    "ce-correlationid": "correlation_id",
    "ce-causationid": "causation_id",
    "ce-traceparent": "traceparent",
    "ce-callback": "callback",
}
_BOUNDED = {"ce-partitionkey": "key", "ce-correlationid": "correlation_id"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TYPE = re.compile(r"(?P<type>[a-z0-9]+(?:[._-][a-z0-9]+)*?)(?:\.(?P<version>v[1-9][0-9]{0,5}))?")
_LONGEST_TYPE = 160
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_TO_ENCODE = re.compile(r'[ "%]|[^\x00-\x7f]+')
_SOMEBODY = UUID("0b3c8f3e-5f0d-5c57-9d3b-6f6a3a1f9c42")


def to_headers(envelope: Envelope) -> dict[str, str]:
    """All that the receiver has to know, as headers; `from_headers` is the way back."""
    headers = {name: _quoted(value) for name, value in envelope.headers.items()}
    headers |= {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": str(envelope.event_id),
        "ce-source": _quoted(envelope.source),
        "ce-type": f"{envelope.type}.{envelope.version}" if envelope.version else envelope.type,
        "ce-time": envelope.occurred_on.astimezone(UTC).isoformat(),
    }
    for header, text in envelope.deprecation.items():
        headers[header] = _quoted(text)
    for header, field in _EXTENSIONS.items():
        value: str | None = getattr(envelope, field)
        if value is not None:
            headers[header] = _quoted(value)
    return headers


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else quote(value, safe=_SAFE)


def encoded(text: str) -> str:
    """A plain value as it stands in a header here; what may not stand in one at all is left for whoever refuses it."""
    return _TO_ENCODE.sub(lambda found: quote(found[0]), text)


def from_headers(
    topic: str, headers: Mapping[str, str], body: bytes, *, key: str | None = None, arrived: datetime | None = None
) -> Envelope:
    """Read an envelope; raises UnreadableMessageError naming the header that is missing or wrong.

    `key` is the broker's own, and `arrived` the time, for an event that says nothing of them.
    """
    if (specversion := _required(headers, "ce-specversion")) != "1.0":
        raise UnreadableMessageError("specversion", "ce-specversion", f"{specversion[:20]!r} instead of '1.0'")
    source = _decoded("ce-source", _required(headers, "ce-source"))
    identity = _bounded("identity", "ce-id", _required(headers, "ce-id"))
    name = _required(headers, "ce-type")
    found = _TYPE.fullmatch(name) if len(name) <= _LONGEST_TYPE else None
    if found is None:
        raise UnreadableMessageError("type", "ce-type", f"{name[:80]!r} is no event type")
    extensions = {field: _decoded(name, headers[name]) for name, field in _EXTENSIONS.items() if name in headers}
    for header, field in _BOUNDED.items():
        # Somebody who has none may say so by an empty one.
        if extensions.get(field) == "":
            del extensions[field]
        elif field in extensions:
            extensions[field] = _bounded("headers", header, headers[header])
    callback = extensions.get("callback")
    if callback is not None and not is_address(callback):
        raise UnreadableMessageError("callback", "ce-callback", f"{callback[:80]!r} is no address of a topic")
    if arrived is None or "ce-time" in headers:
        arrived = _moment(_required(headers, "ce-time"))
    own = {
        name: _decoded(name, value)
        for name, value in headers.items()
        if not name.startswith("ce-") and name != "content-type"
    }
    is_uuid = _UUID.fullmatch(identity)
    return Envelope(
        event_id=UUID(identity) if is_uuid else uuid5(_SOMEBODY, f"{source}\n{identity}"),
        topic=topic,
        type=found["type"],
        version=found["version"] or "",
        body=body,
        occurred_on=arrived,
        source=source,
        headers=own if is_uuid else {**own, FOREIGN_ID: identity},
        key=extensions.get("key", key),
        correlation_id=extensions.get("correlation_id"),
        causation_id=extensions.get("causation_id"),
        traceparent=extensions.get("traceparent"),
        callback=callback,
        deprecation={name: _decoded(name, headers[name]) for name in DEPRECATION_HEADERS if name in headers},
    )


def _required(headers: Mapping[str, str], name: str) -> str:
    try:
        return headers[name]
    except KeyError:
        raise UnreadableMessageError("header missing", name, "CloudEvents requires it") from None


def _decoded(name: str, value: str) -> str:
    try:
        text = unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise UnreadableMessageError("encoding", name, f"{value[:80]!r} is not percent-encoded UTF-8") from error
    if _CONTROL.search(text):
        raise UnreadableMessageError("encoding", name, f"{value[:80]!r} holds control characters")
    return text


def _bounded(reason: str, name: str, value: str) -> str:
    text = _decoded(name, value)
    if not 0 < len(text) <= LONGEST_TEXT:
        raise UnreadableMessageError(reason, name, f"it has {len(text)} characters, and may have 1 to {LONGEST_TEXT}")
    return text


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableMessageError("time", "ce-time", f"{text[:40]!r} is no moment") from error
    if moment.tzinfo is None:
        raise UnreadableMessageError("time", "ce-time", f"{text[:40]!r} has no zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise UnreadableMessageError("time", "ce-time", f"{text[:40]!r} is out of range") from error
