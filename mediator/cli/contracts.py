"""`mediator contracts …`: what makes a shared contracts package safe to change."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mediator.cli.answers import App, Folder, Json, answering, show, show_written
from mediator.cli.located import locate
from mediator.operations.compatibility import Level, differences
from mediator.operations.compatibility import accept as accept_events
from mediator.operations.compatibility import check as check_events
from mediator.operations.documents.eventcatalog import eventcatalog_files
from mediator.operations.documents.markdown import markdown_pages
from mediator.operations.documents.schemas import json_schemas
from mediator.operations.documents.writing import write_files

__all__ = ["Form", "accept", "check", "commands", "diff", "docs", "export"]

commands = typer.Typer(no_args_is_help=True, help="Check contracts against their baseline, and describe them.")

_Baseline = Annotated[
    Path | None,
    typer.Option("--baseline", file_okay=False, help="Its folder. By default baseline under tool.mediator."),
]
_Level = Annotated[
    Level | None,
    typer.Option("--level", help="Which readers count. By default full for public events, backward for internal ones."),
]


class Form(StrEnum):
    """What pages are made as."""

    MARKDOWN = "markdown"
    HTML = "html"
    EVENTCATALOG = "eventcatalog"


@commands.command()
@answering
def check(*, app: App = None, baseline: _Baseline = None, level: _Level = None, as_json: Json = False) -> bool:
    """Compare the contracts with every state that was accepted: 1 when something breaks, or is not accepted yet."""
    located = locate(app, baseline)
    report = check_events(located.events, located.baseline, registry=located.registry, level=level)
    show([report], report.to_dict(), as_json=as_json)
    return report.ok


@commands.command()
@answering
def accept(
    *,
    reason: Annotated[str | None, typer.Option(help="Why a breaking change has to be.")] = None,
    app: App = None,
    baseline: _Baseline = None,
    level: _Level = None,
    as_json: Json = False,
) -> None:
    """Write the contracts as they are to the baseline; a breaking change needs a reason."""
    located = locate(app, baseline)
    accepted = accept_events(located.events, located.baseline, reason=reason, level=level)
    facts = [
        {
            "event": one.event,
            "version": one.version,
            "kind": one.kind,
            "path": str(one.path),
            "changes": [change.to_dict() for change in one.changes],
            "broken": [finding.to_dict() for finding in one.broken],
        }
        for one in accepted
    ]
    show(accepted or ["nothing to accept"], facts, as_json=as_json)


@commands.command()
@answering
def diff(*, app: App = None, baseline: _Baseline = None, as_json: Json = False) -> bool:
    """Show what differs from the newest accepted state, field by field: 1 when something does."""
    located = locate(app, baseline)
    found = differences(located.events, located.baseline)
    show(found or ["no difference"], [one.to_dict() for one in found], as_json=as_json)
    return not found


@commands.command()
@answering
def docs(
    *,
    out: Folder,
    form: Annotated[Form, typer.Option("--format")] = Form.MARKDOWN,
    app: App = None,
    as_json: Json = False,
) -> None:
    """Write a page for each event, and an index."""
    documents = locate(app, None).documents
    if form is Form.HTML:
        from mediator.operations.documents.html_pages import html_pages

        files = html_pages(documents)
    else:
        files = markdown_pages(documents) if form is Form.MARKDOWN else eventcatalog_files(documents)
    show_written(out, write_files(out, files, kind=form.value), as_json=as_json)


@commands.command()
@answering
def export(*, out: Folder, app: App = None, as_json: Json = False) -> None:
    """Write a JSON Schema file for each event."""
    files = json_schemas(locate(app, None).documents)
    show_written(out, write_files(out, files, kind="schemas"), as_json=as_json)
