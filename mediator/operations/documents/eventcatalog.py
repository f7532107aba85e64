"""A catalog for EventCatalog: events, the modules as its services, and topics as its channels.

    events/ordering.order-placed/index.mdx                  the newest version, its schema.json beside it
    events/ordering.order-placed/versioned/v1/index.mdx     an older one
    services/ordering/index.mdx                             what a module sends and receives, and its asyncapi.json
    channels/ordering.public.orders.v2/index.mdx

The folders go into a catalog as they are. An event's id is its wire name; owners are ids of teams or users, whose pages
are the catalog's own. The pages are MDX, where braces and tags are code: everything an author wrote is escaped.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mediator.operations.documents.asyncapi import asyncapi
from mediator.operations.documents.events import EventDocument, EventDocuments
from mediator.operations.documents.markdown import code, sections
from mediator.operations.documents.schemas import as_text, json_schema

__all__ = ["eventcatalog_files"]

_MODULE_CODE = re.compile(r"^(?=import\b|export\b)(.)")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NO_VERSION = "0"


def eventcatalog_files(documents: EventDocuments, *, version: str = "1.0.0") -> dict[str, str]:
    """The catalog; `version` is that of its services and channels, which EventCatalog asks for."""
    files = {}
    for event in documents.events:
        folder = f"events/{event.type}" + (f"/versioned/{_version(event)}" if event.newer else "")
        files[f"{folder}/index.mdx"] = _page(_event(event), sections(event, documents))
        files[f"{folder}/schema.json"] = as_text(json_schema(event))
    for module in sorted(documents.modules):
        files[f"services/{module}/index.mdx"] = _page(_service(documents, module, version), ["<NodeGraph />"])
        files[f"services/{module}/asyncapi.json"] = as_text(asyncapi(documents, module=module, version=version))
    for event in documents.events:
        if not event.local:
            files[f"channels/{event.channel}/index.mdx"] = _page(_channel(event, version), [code(event.address)])
    return dict(sorted(files.items()))


def _event(event: EventDocument) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": event.type,
        "name": event.name,
        "version": _version(event),
        "summary": event.summary,
        "owners": [event.owner] if event.owner else [],
        "schemaPath": "schema.json",
        "channels": [] if event.local else [{"id": event.channel}],
    }
    if event.deprecation is not None:
        facts["deprecated"] = {"message": event.status_words, "date": str(event.deprecation.since)}
    return facts


def _service(documents: EventDocuments, module: str, version: str) -> dict[str, Any]:
    return {
        "id": module,
        "name": module,
        "version": version,
        "summary": f"Module of {documents.title}",
        "sends": [_pointer(event, "to") for event in documents.sent_by(module)],
        "receives": [_pointer(event, "from") for event in documents.received_by(module)],
        "specifications": [{"type": "asyncapi", "path": "asyncapi.json"}],
    }


def _channel(event: EventDocument, version: str) -> dict[str, Any]:
    return {
        "id": event.channel,
        "name": event.channel,
        "version": version,
        "address": event.address,
        "parameters": {"environment": {"description": "One segment of a-z, 0-9 and hyphens, such as prod."}},
    }


def _pointer(event: EventDocument, direction: str) -> dict[str, Any]:
    pointer: dict[str, Any] = {"id": event.type, "version": _version(event)}
    return pointer if event.local else {**pointer, direction: [{"id": event.channel}]}


def _version(event: EventDocument) -> str:
    return event.version or _NO_VERSION


def _page(facts: Mapping[str, Any], body: Iterable[str]) -> str:
    """Front matter in JSON's part of YAML, so that nothing in it can be read as anything but text."""
    front = [f"{name}: {_quoted(value)}" for name, value in facts.items() if value not in ("", [])]
    # MDX takes a paragraph that begins with these words for the code of a module.
    lines = [
        _MODULE_CODE.sub(lambda found: f"&#{ord(found[1])};", line)
        for text in body
        for line in text.splitlines() or [""]
    ]
    return "\n".join(("---", *front, "---", "", *lines)).rstrip("\n") + "\n"


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
