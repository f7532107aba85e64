"""What `mediator.send` adds to calling the handler oneself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mediator import Command, CommandHandler, MediatorApp
from tests.benchmarks.measuring import Scale, Table, again, measure
from tests.support import module_of

__all__ = ["run"]


@dataclass(frozen=True)
class Nothing(Command[int]):
    """Asks for nothing."""


class NothingHandler(CommandHandler[Nothing, int]):
    """Does nothing, so that only the way to it is measured."""

    async def handle(self, command: Nothing) -> int:
        return 0


async def run(scale: Scale) -> Sequence[Table]:
    """On a SQLite file, as an application has it: WAL, synchronous=FULL."""
    with TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'benchmark.db'}"
        app = MediatorApp(
            "bench", modules=[module_of("bank", Nothing, NothingHandler)], database=url, environment="bench"
        )
        async with app:
            return [await _sending(app, scale)]


async def _sending(app: MediatorApp, scale: Scale) -> Table:
    handler = NothingHandler()

    async def nested(times: int) -> None:
        async with app.unit_of_work():
            for _ in range(times):
                await app.mediator.send(Nothing())

    ways = {
        "calling the handler": again(lambda: handler.handle(Nothing())),
        "send inside a unit of work": nested,
        "send with a unit of work of its own": again(lambda: app.mediator.send(Nothing())),
    }
    return await measure("A command whose handler does nothing (no statement, no commit)", ways, 500, scale)
