"""`python -m sample_app`: tell the story, and check that it is true.

Exit status: 0 when every check passed, 1 when one did not, 2 when the command line cannot work.
"""

import argparse
import asyncio
import io
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random, SystemRandom

import structlog
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from mediator import MediatorError
from mediator.errors import BrokerError, DatabaseUnavailableError, SchemaError, SettingsError
from sample_app.place import kind_of, named, refuse_strangers, temporary
from sample_app.story import SCENARIOS
from sample_app.story.crash import run_child
from sample_app.story.stage import Stage
from sample_app.wiring import create_tables, make_shop

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; gives its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _configure_logging(verbose=options.verbose)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows a question mark instead of failing
    with ExitStack() as stack:
        try:
            given = options.database
            database = temporary(stack, keep=options.keep) if given is None else named(given)
            if options.child:
                stage = Stage(database, options.transport, SystemRandom(), Console())
                asyncio.run(run_child(stage, *options.child))
                return 0
            asyncio.run(_prepare(database, options.transport))
        except (SettingsError, DatabaseUnavailableError, SchemaError, BrokerError) as error:
            parser.error(str(error))
        return asyncio.run(_tell(options, database))


def _parser() -> argparse.ArgumentParser:
    numbers = range(1, len(SCENARIOS) + 1)
    parser = argparse.ArgumentParser(
        "sample_app",
        description="A shop as a modular monolith, in fourteen scenarios. Every one checks what it tells.",
        epilog="Exit status: 0 when all checks passed, 1 when one did not, 2 for a wrong command line.",
    )
    parser.add_argument("--scenario", type=int, choices=numbers, metavar="N", help="play only scenario N (1 to 14)")
    parser.add_argument("--seed", type=int, help="names, goods and amounts; by default, others in every run")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="play in this database, for example sqlite+aiosqlite:///shop.db or postgresql+asyncpg://user@host/shop or "
        "mariadb+asyncmy://user@host/shop, and keep what is made in it; it may be one of a former run. "
        "By default: a SQLite file in a temporary folder",
    )
    parser.add_argument(
        "--transport",
        metavar="URL",
        default="memory://",
        help="let the events travel over a broker, for example redis://127.0.0.1:6379; by default in process, memory://",
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary database, and say where it is")
    parser.add_argument("--verbose", action="store_true", help="show what the toolkit logs, on standard error")
    # For the crash scenarios: what a process does until it is killed.
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser


def _configure_logging(*, verbose: bool) -> None:
    # The library leaves structlog alone: an application decides what becomes of its log. Here, it must not
    # interrupt the story, whose failing handlers fail on purpose.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _prepare(database: str, transport: str) -> None:
    """Create the tables, and finish what a former run left."""
    await refuse_strangers(database)
    async with make_shop(database, transport=transport) as shop:
        await create_tables(shop)
        await shop.drained()


async def _tell(options: argparse.Namespace, database: str) -> int:
    console = Console(highlight=False)
    seed = SystemRandom().randrange(10_000) if options.seed is None else options.seed
    console.print(f"A shop in four modules, on one {kind_of(database)}. Seed {seed}.")
    passed = failed = 0
    for number, scenario in enumerate(SCENARIOS, 1):
        if options.scenario in (None, number):
            console.print(f"\n[bold]{number}. {escape(scenario.title)}[/]")
            # Dice of its own for each scenario: it is the same alone and in the whole story.
            stage = Stage(database, options.transport, Random(f"{seed}-{number}"), console)  # noqa: S311 - nothing secret
            stage.tell(scenario.happens)
            try:
                await scenario.play(stage)
            except (MediatorError, LookupError, SQLAlchemyError, OSError) as error:
                stage.fail("the scenario can be played to its end", f"{type(error).__name__}: {error}")
            passed, failed = passed + stage.passed, failed + stage.failed
    console.print()
    if options.keep and options.database is None:
        console.print(f"The database is kept: {Path(database.removeprefix('sqlite+aiosqlite:///'))}", soft_wrap=True)
    colour = "red" if failed else "green"
    console.print(f"[{colour}]{passed} of {passed + failed} checks passed[/]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
