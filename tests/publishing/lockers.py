"""Programs that lock keys, in processes of their own.

python -m tests.publishing.lockers many URL FOLDER SEED COMMANDS     commands on random keys, from several tasks
python -m tests.publishing.lockers hold URL FOLDER KEY...            has the keys until it is killed

Whoever is inside a command has a file for each of its keys; two at once would need the same file. And each command
counts up what it has read, so one that began before another had committed would lose that one's count.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import update
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Command, CommandHandler, MediatorApp
from tests.support import Account, module_of, quick_settings

__all__ = ["KEYS", "account_of", "locker_app", "run"]

KEYS = ("apples", "pears", "plums", "cherries", "quinces")
_TASKS = 4
_ROOT = Path(__file__).parents[2]


class Slip(Exception):  # noqa: N818 - no mistake
    """Rolls a command back."""


@dataclass(frozen=True)
class CountUp(Command[None]):
    keys: tuple[str, ...]
    pause: float
    slips: bool


class CountUpHandler(CommandHandler[CountUp, None]):
    lock_timeout = timedelta(seconds=60)
    folder: ClassVar[Path]
    overlaps: ClassVar[int] = 0

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def lock_keys(self, command: CountUp) -> Iterable[str]:
        return command.keys

    async def handle(self, command: CountUp) -> None:
        mine = [self.folder / key for key in set(command.keys)]
        for file in mine:
            try:
                file.touch(exist_ok=False)
            except FileExistsError:
                type(self).overlaps += 1
        for key in set(command.keys):
            await self._count(account_of(key), command.pause)
        for file in mine:
            file.unlink(missing_ok=True)
        if command.slips:
            raise Slip

    async def _count(self, account: UUID, pause: float) -> None:
        balance = (await self._session.exec(select(Account.balance).where(Account.id == account))).one()
        await asyncio.sleep(pause)
        changed = update(Account).where(col(Account.id) == account).values(balance=balance + 1)
        await (await self._session.connection()).execute(changed)


def account_of(key: str) -> UUID:
    """Where the commands that have a key are counted."""
    return uuid5(NAMESPACE_OID, key)


def locker_app(url: str) -> MediatorApp:
    """An application that only carries out commands."""
    return MediatorApp(
        "shop",
        modules=[module_of("orchard", CountUp, CountUpHandler)],
        database=url,
        environment="test",
        schema="create",
        roles={"publish"},
        settings=quick_settings(database={"connections": _TASKS, "reading_connections": 1}),
    )


def run(*arguments: object) -> subprocess.Popen[str]:
    """One of these programs, in a process of its own."""
    command = [sys.executable, "-m", "tests.publishing.lockers", *map(str, arguments)]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


async def many(url: str, seed: int, commands: int) -> None:
    chance = random.Random(seed)
    counts = dict.fromkeys(KEYS, 0)

    async def task(app: MediatorApp) -> None:
        for _ in range(commands // _TASKS):
            keys = tuple(chance.choices(KEYS, k=chance.randint(1, 4)))
            command = CountUp(keys, chance.uniform(0, 0.004), slips=chance.random() < 0.1)
            # On SQLite other processes may be faster for so long that one gives up waiting.
            while True:
                with suppress(Slip):
                    try:
                        await app.mediator.send(command)
                    except DBAPIError as error:
                        if "database is locked" in str(error):
                            continue
                        raise
                    for key in set(keys):
                        counts[key] += 1
                break

    async with locker_app(url) as app:
        await asyncio.gather(*(task(app) for _ in range(_TASKS)))
    print(CountUpHandler.overlaps, *counts.values())  # noqa: T201 - what the test reads


async def hold(url: str, keys: Sequence[str]) -> None:
    async with locker_app(url) as app, app.unit_of_work() as uow:
        await uow.lock(*keys)
        print("held", flush=True)  # noqa: T201 - what the test reads
        await asyncio.Event().wait()


if __name__ == "__main__":
    CountUpHandler.folder = Path(sys.argv[3])
    if sys.argv[1] == "many":
        asyncio.run(many(sys.argv[2], int(sys.argv[4]), int(sys.argv[5])))
    else:
        asyncio.run(hold(sys.argv[2], sys.argv[4:]))
