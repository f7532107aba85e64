"""`mediator asyncapi`: AsyncAPI documents."""

from pathlib import Path
from typing import Annotated

import typer

from mediator.cli.answers import App, Json, answering, show_written
from mediator.cli.located import locate
from mediator.operations.documents.asyncapi import asyncapi as document_of
from mediator.operations.documents.asyncapi import asyncapi_files
from mediator.operations.documents.schemas import as_text
from mediator.operations.documents.writing import write_files

__all__ = ["asyncapi"]


@answering
def asyncapi(
    *,
    module: Annotated[str | None, typer.Option(help="Only what this module sends and receives.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Write the whole, and one for each module, here.")
    ] = None,
    version: Annotated[str, typer.Option(help="The document's own version.")] = "1.0.0",
    app: App = None,
    as_json: Json = False,
) -> None:
    """Print an AsyncAPI 3.1 document of the application, in JSON, or write a folder of them."""
    documents = locate(app, None).documents
    if out is None:
        typer.echo(as_text(document_of(documents, module=module, version=version)), nl=False)
        return
    if module is not None:
        raise typer.BadParameter("a folder gets the documents of all modules: leave out --module, or --out")
    show_written(out, write_files(out, asyncapi_files(documents, version=version), kind="asyncapi"), as_json=as_json)
