"""The command line: `mediator …`, or `python -m mediator.cli …`.

    mediator contracts check           the contracts against their baseline
    mediator contracts accept          bring the baseline up to date
    mediator contracts diff            what changed, field by field
    mediator contracts docs            pages for people
    mediator contracts export          JSON Schema files
    mediator asyncapi                  an AsyncAPI document

Exit status: 0 when all is well, 1 when something was found, 2 when the command cannot work as it was given.

A command is a function in the file of its group; `program` puts them together. What a command looks at is found by
`located`, how it answers is in `answers`. It needs the extra `cli`.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments of this process name."""
    try:
        from mediator.cli.program import program
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.stderr.write("error: the command line needs an extra: pip install 'mediator-toolkit[cli]'\n")
        sys.exit(2)
    program()
