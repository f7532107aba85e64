"""All commands together. A new one is a function in its group's file, and a group is a line here."""

import typer

from mediator.cli import contracts
from mediator.cli.asyncapi import asyncapi

__all__ = ["program"]

program = typer.Typer(
    name="mediator",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look after the events of an application. Exit status: 0 all is well, 1 something was found, 2 wrong usage.",
)
program.add_typer(contracts.commands, name="contracts")
program.command()(asyncapi)
