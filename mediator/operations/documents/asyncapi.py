"""AsyncAPI 3.1.0: one document for the whole, and one for each module with what it sends and receives.

    asyncapi(documents)                        everything
    asyncapi(documents, module="ordering")     what a module's neighbours have to know

Channels are the topics' addresses, with the environment as their parameter; messages are the versions of events, with
the CloudEvents headers that are really written; operations say who sends and who receives. Events that never leave the
application are on no channel. JSON is enough: AsyncAPI reads it as well as YAML, and there is one way to write it.
"""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from mediator.errors import SettingsError
from mediator.operations.documents.events import EventDocument, EventDocuments
from mediator.operations.documents.headers import HEADERS, headers_of
from mediator.operations.documents.schemas import as_text, rebuilt, with_sorted_sets

__all__ = ["asyncapi", "asyncapi_files"]

_TEMPLATE = "#/components/schemas/{model}"
_HEADERS = "CloudEvents-Headers"  # no model can be called so


def asyncapi_files(documents: EventDocuments, *, version: str = "1.0.0") -> dict[str, str]:
    """The document of the whole, and one of each module."""
    files = {"asyncapi.json": as_text(asyncapi(documents, version=version))}
    for module in sorted(documents.modules):
        files[f"asyncapi/{module}.json"] = as_text(asyncapi(documents, module=module, version=version))
    return files


def asyncapi(documents: EventDocuments, *, module: str | None = None, version: str = "1.0.0") -> dict[str, Any]:
    """The document of the application, or of one of its modules; `version` is the document's own."""
    if module is not None and module not in documents.modules:
        raise SettingsError("module", module, f"use one of {', '.join(documents.modules) or 'none: there are none'}")
    events = [event for event in documents.events if not event.local]
    if module is not None:
        wanted = {event.slug for event in (*documents.sent_by(module), *documents.received_by(module))}
        events = [event for event in events if event.slug in wanted]
    title = documents.title if module is None else f"{documents.title}: {module}"
    return {
        "asyncapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _described(events, module)},
        "defaultContentType": "application/json",
        "channels": _channels(events),
        "operations": dict(sorted(_operations(events, module))),
        "components": {
            "schemas": {**_schemas(events), _HEADERS: HEADERS},
            "messages": {event.slug: _message(event, documents.title) for event in events},
        },
    }


def _described(events: list[EventDocument], module: str | None) -> str:
    what = "Integration events" if module is None else f"Integration events that the module {module} sends or receives"
    return f"{what}: {len(events)} in all."


def _channels(events: list[EventDocument]) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    for event in sorted(events, key=lambda event: event.channel):
        channel = channels.setdefault(
            event.channel,
            {
                "address": event.address,
                "description": f"Topic of the domain {event.domain}, {event.scope}.",
                "messages": {},
                "parameters": {"environment": {"description": "One segment of a-z, 0-9 and hyphens, such as prod."}},
            },
        )
        channel["messages"][event.slug] = {"$ref": f"#/components/messages/{event.slug}"}
    return channels


def _operations(events: list[EventDocument], module: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in events:
        for sender in sorted({one.module for one in event.producers or ()}):
            if module in (None, sender):
                made_by = [one.made_by for one in event.producers or () if one.module == sender]
                yield f"{sender}.send.{event.slug}", _operation("send", event, sender, {"x-made-by": made_by})
        for one in event.consumers or ():
            if module in (None, one.module):
                more = {"x-subscriber": one.subscriber_id}
                if one.reads_as != event.slug:
                    more["x-reads-as"] = one.reads_as
                name = f"{one.module}.receive.{event.slug}.{one.subscriber_id}"
                yield name, _operation("receive", event, one.module, more)


def _operation(action: str, event: EventDocument, module: str, more: dict[str, Any]) -> dict[str, Any]:
    # A slash in a reference stands for ~1; addresses and slugs have none, and no tilde.
    channel = f"#/channels/{event.channel}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{event.slug}"}],
        "tags": [{"name": module}],
        "x-module": module,
        **more,
    }


def _message(event: EventDocument, application: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": event.slug,
        "title": event.name,
        "summary": event.summary,
        "description": event.description,
        "contentType": "application/json",
        "headers": _headers(event),
        "payload": {"$ref": f"#/components/schemas/{event.slug}"},
        "correlationId": {
            "description": "The same for all that one request set off.",
            "location": "$message.header#/ce-correlationid",
        },
        "tags": [{"name": event.domain}, {"name": event.scope}],
        "x-status": event.status_words,
    }
    if event.owner:
        message["x-owner"] = event.owner
    if event.partition_keys:
        message["x-partition-key"] = list(event.partition_keys)
    if event.deprecation is not None:
        message["deprecated"] = True
        message["x-deprecated"] = {
            name: str(value)
            for name, value in (
                ("since", event.deprecation.since),
                ("sunset", event.deprecation.sunset),
                ("replacement", event.replacement),
            )
            if value
        }
    if event.example is not None:
        message["examples"] = [
            {"name": "example", "headers": headers_of(event, application), "payload": dict(event.example)}
        ]
    return {name: value for name, value in message.items() if value != ""}


def _headers(event: EventDocument) -> dict[str, Any]:
    """Those of every event, and what is fixed for this one."""
    found = {
        "allOf": [{"$ref": f"#/components/schemas/{_HEADERS}"}],
        "type": "object",
        "properties": {"ce-type": {"const": event.slug}},
    }
    return {**found, "required": ["ce-partitionkey"]} if event.partition_keys else found


def _schemas(events: list[EventDocument]) -> dict[str, Any]:
    """The payloads by the events' slugs, and the models that they are made of by their own names."""
    mode: JsonSchemaMode = "serialization"
    classes = [(event.event_class, mode) for event in events]
    if not classes:
        return {}
    references, whole = models_json_schema(classes, by_alias=True, ref_template=_TEMPLATE)
    definitions = with_sorted_sets(whole).get("$defs", {})
    own = {str(references[event.event_class, mode]["$ref"]).rpartition("/")[2]: event.slug for event in events}
    deprecated = {event.slug for event in events if event.deprecation is not None}
    schemas = {}
    for name, schema in definitions.items():
        title = own.get(name, name)
        found = rebuilt(schema, lambda node: _rewritten(node, own))
        schemas[title] = {**found, **({"deprecated": True} if title in deprecated else {})}
    return dict(sorted(schemas.items()))


def _rewritten(node: dict[str, Any], own: dict[str, str]) -> dict[str, Any]:
    """A schema in the words of AsyncAPI, which is JSON Schema draft 7 and a little more."""
    if isinstance(node.get("discriminator"), dict):
        # Of OpenAPI's object AsyncAPI has taken the name alone.
        node["discriminator"] = node["discriminator"]["propertyName"]
    if "prefixItems" in node:
        node["items"] = node.pop("prefixItems")
    if "$ref" in node:
        name = str(node.pop("$ref")).rpartition("/")[2]
        target = {"$ref": _TEMPLATE.format(model=own.get(name, name))}
        # Beside a reference draft 7 reads nothing.
        return {"allOf": [target], **node} if node else target
    return node
