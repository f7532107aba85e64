"""The envelope: an integration event on its way, as bytes with an address, an identity and a lineage.

The body is made once, when the event is published, and stays the same bytes through outbox, transport and inbox; only
the handler's side reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

__all__ = ["DEPRECATION_HEADERS", "LONGEST_TEXT", "Envelope", "headers_column"]

LONGEST_TEXT = 200
"""Characters that the tables hold of a key or a correlation."""

DEPRECATION_HEADERS = ("ce-deprecated", "ce-deprecationfrom", "ce-deprecationsunset", "ce-replacedby")

_CALLBACK = "ce-callback"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An integration event on its way."""

    event_id: UUID
    topic: str
    """Full address, environment included."""
    type: str
    """Wire name, for example `ordering.order-placed`."""
    version: str
    """`v1`, or empty."""
    body: bytes
    """JSON, UTF-8."""
    occurred_on: datetime
    source: str
    """`/application/module` of the publisher."""
    key: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    callback: str | None = None
    """Full address for the answers."""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    """The publisher's own headers."""
    deprecation: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    """What it says of its own deprecation: some of `DEPRECATION_HEADERS`."""

    handed_over: int = field(default=0, compare=False)
    """How often it was handed to the transport before without an outcome; stays in the process."""

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> "Envelope":
        """The envelope that a row of the outbox holds; raises ValueError when somebody else has written to it."""
        headers, callback, deprecation = _headers(row["headers"])
        return cls(
            event_id=row["event_id"],
            topic=row["topic"],
            type=row["type"],
            version=row["version"],
            body=bytes(row["body"]),
            occurred_on=row["occurred_on"],
            source=row["source"],
            key=row["partition_key"],
            correlation_id=row["correlation_id"],
            causation_id=row["causation_id"],
            traceparent=row["traceparent"],
            callback=callback,
            headers=headers,
            deprecation=deprecation,
            handed_over=row["attempts"],
        )


def headers_column(
    headers: Mapping[str, str], callback: str | None, deprecation: Mapping[str, str] = _NO_HEADERS
) -> str:
    """What an outbox row keeps as headers: the publisher's own, and the toolkit's under names that none of them has."""
    own = {} if callback is None else {_CALLBACK: callback}
    return json.dumps({**headers, **deprecation, **own})


def _headers(text: str) -> tuple[Mapping[str, str], str | None, Mapping[str, str]]:
    if text == "{}":
        return _NO_HEADERS, None, _NO_HEADERS
    headers = json.loads(text)
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError(f"its headers are no texts by name: {text[:200]}")
    deprecation = {name: headers.pop(name) for name in DEPRECATION_HEADERS if name in headers}
    return headers, headers.pop(_CALLBACK, None), deprecation
