"""How commands answer: text for people, JSON for programs, errors on standard error, and an exit status.

0   all is well
1   something was found
2   the command cannot work as it was given
"""

import json
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import typer

from mediator.errors import MediatorError
from mediator.operations.documents.writing import Written

__all__ = ["App", "Folder", "Json", "answering", "show", "show_written"]

P = ParamSpec("P")

App = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        help="The application. By default app under tool.mediator in pyproject.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, on standard output.")]
Folder = Annotated[Path, typer.Option("--out", file_okay=False, help="The folder to write to.")]

_COLOURS: Final = {
    "breaking": typer.colors.RED,
    "unaccepted": typer.colors.RED,
    "-": typer.colors.RED,
    "+": typer.colors.GREEN,
    "~": typer.colors.YELLOW,
}


def answering(command: Callable[P, bool | None]) -> Callable[P, None]:
    """A command that gives whether all is well; what cannot work is told without a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            is_well = command(*args, **kwargs)
        except (MediatorError, OSError) as error:
            typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error
        raise typer.Exit(0 if is_well in {True, None} else 1)

    return run


def show(texts: Iterable[object], facts: Any, *, as_json: bool) -> None:
    """The texts, one below the other, each in the colour of its first word; or the facts as JSON."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for text in texts:
        for line in str(text).splitlines():
            typer.secho(line, fg=_COLOURS.get(line.lstrip().partition(" ")[0]))


def show_written(folder: Path, written: Written, *, as_json: bool) -> None:
    """What was written to a folder."""
    lines = [
        *(f"+ {path}" for path in written.changed),
        *(f"- {path}" for path in written.removed),
        *(f"kept, because somebody has changed it: {path}" for path in written.kept),
        f"{folder}: {len(written.changed)} written, {len(written.unchanged)} unchanged, {len(written.removed)} removed",
    ]
    facts = {
        "folder": str(folder),
        "changed": written.changed,
        "unchanged": written.unchanged,
        "removed": written.removed,
        "kept": written.kept,
    }
    show(lines, facts, as_json=as_json)
