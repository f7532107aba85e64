"""Documents that are generated from the contracts: for people, for tools, and the same bytes in every run.

    documents = documents_of(app.registry)
    write_files("docs/events", markdown_pages(documents), kind="markdown")

One model is made from the registry, or from the contracts alone; every kind of document is a function from it to the
texts of files by their paths. Nothing is opened, started or asked what time it is.
"""

from mediator.operations.documents.asyncapi import asyncapi, asyncapi_files
from mediator.operations.documents.eventcatalog import eventcatalog_files
from mediator.operations.documents.events import (
    Consumer,
    EventDocument,
    EventDocuments,
    Producer,
    documents_of,
    documents_of_contracts,
)
from mediator.operations.documents.fields import FieldDocument
from mediator.operations.documents.html_pages import html_pages
from mediator.operations.documents.markdown import markdown_pages
from mediator.operations.documents.schemas import json_schema, json_schemas
from mediator.operations.documents.sizes import Size
from mediator.operations.documents.writing import Written, write_files

__all__ = [
    "Consumer",
    "EventDocument",
    "EventDocuments",
    "FieldDocument",
    "Producer",
    "Size",
    "Written",
    "asyncapi",
    "asyncapi_files",
    "documents_of",
    "documents_of_contracts",
    "eventcatalog_files",
    "html_pages",
    "json_schema",
    "json_schemas",
    "markdown_pages",
    "write_files",
]
