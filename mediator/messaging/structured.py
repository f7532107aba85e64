"""CloudEvents in structured mode: a whole event as one JSON document, for what has no headers.

    {"specversion": "1.0", "id": "0199…", "source": "/shop/ordering", "type": "ordering.placed.v1", …, "data": {…}}

Others may write this on every broker, and it is read on every one. Our own transports all have headers, and use those;
a transport without them sends `to_document`.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from mediator.errors import UnreadableMessageError
from mediator.messaging.cloudevents import encoded, to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.limits import Limits, read_json

__all__ = ["STRUCTURED", "from_document", "is_structured", "to_document"]

STRUCTURED = "application/cloudevents+json"
"""The content type of such a document."""
_DATA = ("data", "data_base64")
_JSON = "application/json"


def to_document(envelope: Envelope) -> bytes:
    """The envelope as one document, with those of the publisher's headers whose names CloudEvents allows."""
    attributes = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in to_headers(envelope).items()
        if name.startswith("ce-") or (name.isalnum() and name not in _DATA)
    }
    document = {**attributes, "datacontenttype": _JSON, "data": json.loads(envelope.body)}
    return _compact(document)


def is_structured(headers: Mapping[str, str]) -> bool:
    """Whether the content type says that the envelope is in the body; raises UnreadableMessageError for a batch."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("application/cloudevents") and content_type != STRUCTURED:
        raise UnreadableMessageError("content type", "content-type", f"{content_type[:80]!r} is not {STRUCTURED!r}")
    return content_type == STRUCTURED


def from_document(headers: Mapping[str, str], body: bytes, limits: Limits) -> tuple[dict[str, str], bytes]:
    """The same in binary mode: all headers, and the event as the body; raises UnreadableMessageError."""
    document = read_json(body, limits)
    found = {name: value for name, value in headers.items() if name != "content-type" and not name.startswith("ce-")}
    for name, value in document.items():
        if name not in _DATA and value is not None:
            found["content-type" if name == "datacontenttype" else f"ce-{name}"] = _text(name, value)
    return found, _data(document)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return encoded(str(value))
    raise UnreadableMessageError("headers", name[:64], f"an attribute is no {type(value).__name__}")


def _data(document: Mapping[str, Any]) -> bytes:
    if "data" in document and "data_base64" in document:
        raise UnreadableMessageError("json", "data_base64", "there is data as well")
    if "data_base64" not in document:
        return _compact(document.get("data"))
    try:
        return b64decode(document["data_base64"], validate=True)
    except (ValueError, TypeError) as error:
        raise UnreadableMessageError("encoding", "data_base64", str(error)) from error


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
