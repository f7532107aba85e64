"""DotNetCore.CAP's headers, so that its services and ours can read each other.

    cap-msg-id      the event's id                      cap-corr-id         the correlation
    cap-msg-name    the topic                           cap-corr-seq        how many answers came before this one
    cap-msg-type    the event's name                    cap-callback-name   the topic for answers
    cap-senttime    when it happened                    cap-kafka-key       the partition key

CAP names a topic and no version, so an event of theirs is read as the one contract that this application has on that
topic. What is not named above (cap-exec-instance-id, cap-exception, …) is handed on to handlers as it came.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from contracts import Topic
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.cloudevents import encoded

__all__ = ["cap_headers", "from_cap", "is_cap"]

_SOURCE: Final = "/cap"
_ID, _NAME, _TYPE, _TIME = "cap-msg-id", "cap-msg-name", "cap-msg-type", "cap-senttime"
_CORRELATION, _SEQUENCE, _CALLBACK, _KEY = "cap-corr-id", "cap-corr-seq", "cap-callback-name", "cap-kafka-key"
_ATTRIBUTES: Final = {_CORRELATION: "ce-correlationid", _CALLBACK: "ce-callback", _KEY: "ce-partitionkey"}
# CAP writes `DateTimeOffset.Now.ToString()`, which depends on the culture: these are the invariant one and English.
_TIMES: Final = ("%m/%d/%Y %H:%M:%S %z", "%m/%d/%Y %I:%M:%S %p %z")


def cap_headers(row: Mapping[str, Any], callback: str | None) -> dict[str, str]:
    """What CAP expects beside an event, from its outbox row."""
    headers = {
        _ID: str(row["event_id"]),
        _NAME: row["topic"],
        _TYPE: _wire_name(row["type"], row["version"]),
        _TIME: row["occurred_on"].isoformat(),
        _CORRELATION: row["correlation_id"],
        _SEQUENCE: "0",
    }
    optional = {_CALLBACK: callback, _KEY: row["partition_key"]}
    return headers | {name: value for name, value in optional.items() if value is not None}


def is_cap(headers: Mapping[str, str]) -> bool:
    """Whether CAP wrote this."""
    return _ID in headers


def from_cap(topic: str, headers: Mapping[str, str], catalog: EventCatalog) -> dict[str, str]:
    """The same as CloudEvents; raises UnreadableMessageError when no contract, or more than one, has the topic."""
    headers = {name: unquote(value) for name, value in headers.items()}
    event = _contract(topic, headers, catalog)
    found = {name: encoded(value) for name, value in headers.items() if name not in {_ID, _TIME, *_ATTRIBUTES}}
    found |= {ours: encoded(headers[theirs]) for theirs, ours in _ATTRIBUTES.items() if headers.get(theirs)}
    if moment := _moment(headers.get(_TIME, "")):
        found["ce-time"] = moment.isoformat()
    return found | {
        "ce-specversion": "1.0",
        "ce-id": encoded(headers[_ID]),
        "ce-source": _SOURCE,
        "ce-type": _wire_name(event.type, event.version),
    }


def _contract(topic: str, headers: Mapping[str, str], catalog: EventCatalog) -> Topic:
    names = {topic, headers.get(_NAME, topic)}
    found = [entry.topic for entry in catalog if entry.address in names]
    if len(found) > 1:
        # Ours come back with our name, and others may send it on purpose.
        found = [one for one in found if _wire_name(one.type, one.version) == headers.get(_TYPE)]
    if len(found) != 1:
        what = f"not one contract has the topic {headers.get(_NAME, topic)[:80]!r}, and CAP tells them by nothing else"
        raise UnreadableMessageError("unknown type", _NAME, what)
    return found[0]


def _wire_name(name: str, version: str) -> str:
    return f"{name}.{version}" if version else name


def _moment(text: str) -> datetime | None:
    for form in (None, *_TIMES):
        try:
            moment = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)  # noqa: DTZ007
        except ValueError:
            continue
        return moment if moment.tzinfo is not None else None
    return None
