"""One run of the ledger in a process of its own, which may be killed at a crash point.

A run goes on with whatever earlier runs left behind, lets several writers move money at the same time, waits until
nothing is pending, and may then heal the strict handler and replay what died. A member of a team does so again and
again, until it is killed or the team closes.
"""

import asyncio
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from mediator import MediatorApp, MediatorSettings, Module, RetryPolicy, Runtime
from mediator.errors import (
    CommitOutcomeUnknownError,
    DatabaseUnavailableError,
    DrainTimeoutError,
    OperationRefusedError,
)
from mediator.hosting.settings import ROLES, Role
from mediator.storage.engines import is_transient
from mediator.testing import kill_at
from mediator.transports import transport_for
from tests.ledger.bookkeeper import Conditions
from tests.ledger.journal import Intent, Journal
from tests.ledger.payments import MoveMoney, TransferRefusedError
from tests.ledger.tables import ACCOUNTS
from tests.ledger.transport import shaky
from tests.ledger.variants import break_it
from tests.ledger.waiting import tasks_at_work

__all__ = ["CLOSED", "Run", "carry_out", "ledger_app", "main"]

CLOSED = "closed"
"""The name of the file that tells a team to come to an end."""
_WRITERS = 3
_BREATH_SECONDS = 0.1
_LOOK_UP = timedelta(milliseconds=500)
_COMMITTED = frozenset({"uow.after_commit", "inbox.after_commit", "relay.after_delete"})
# Last digits of the amounts: every way to go wrong is taken in the batch of a run, the most telling ones twice.
_DIGITS = (0, 1, 3, 3, 4, 5, 7, 8, 9, 9)
_BATCH_OF_A_MEMBER = 5


@dataclass(frozen=True)
class Run:
    """What a process is to do."""

    folder: Path
    """Where it writes what it intends and says."""
    url: str
    number: int
    seed: int
    accounts: Sequence[str] = ACCOUNTS
    moves_money: bool = True
    kill: tuple[str, int] | None = None
    """Crash point, and the how manieth time it is reached."""
    variant: str | None = None
    heal: bool = False
    transport: str = "memory://"
    refusals: float = 0.2
    copies: float = 0.1
    set_aside_for: timedelta = timedelta(milliseconds=20)
    """How long a refused row waits."""
    roles: Collection[Role] = ROLES
    member: bool = False
    """Goes on with new batches until the team closes."""
    linger: bool = False
    """Stay when everything is done, until somebody kills the process."""
    patience: timedelta = timedelta(seconds=60)
    """How long nothing may be committed while something is pending; a slow machine has all the time that it needs."""

    def batches(self) -> Iterator[Sequence[Intent]]:
        """The transfers of this run: one batch, or as many as somebody asks for."""
        random = Random(self.seed)
        number = 0
        while self.moves_money and (self.member or number == 0):
            batch = []
            for digit in random.sample(_DIGITS, _BATCH_OF_A_MEMBER if self.member else len(_DIGITS)):
                # A few accounts have most of the traffic, so that events meet others of their key.
                account = random.choice(self.accounts[: random.choice([3, 3, len(self.accounts)])])
                batch.append(Intent(f"{self.number}-{number}", account, random.randrange(100) * 10 + digit))
                number += 1
            yield batch


class _Progress:
    """When this process committed something last, by the monotonic clock, in seconds; it dies where it is to die."""

    def __init__(self, kill: tuple[str, int] | None) -> None:
        self.at = time.monotonic()
        self._die = kill_at(*kill) if kill else None

    def reached(self, place: str) -> None:
        """A `Runtime.reached`."""
        if place in _COMMITTED:
            self.at = time.monotonic()
        if self._die:
            self._die(place)


def ledger_app(run: Run, conditions: Conditions, progress: _Progress) -> MediatorApp:
    """The application."""

    def bind(binder: Any) -> None:
        binder.bind(Conditions, to=conditions)

    again = RetryPolicy.fixed(100, run.set_aside_for)
    # A transport that is wrapped is not told which database is the application's.
    way = run.transport.replace("sql://", f"sql+{run.url}", 1)
    return MediatorApp(
        "bank",
        modules=[
            Module("payments", package="tests.ledger.payments"),
            Module("books", package="tests.ledger.books", bindings=[bind]),
            Module("reporting", package="tests.ledger.reporting", bindings=[bind]),
        ],
        database=run.url,
        environment="test",
        transport=shaky(transport_for(way), Random(run.seed), run.refusals, run.copies),
        roles=run.roles,
        settings=MediatorSettings.model_validate(
            {
                # Several teams at a time have to fit into what a server allows by default.
                "database": {"connections": 3, "reading_connections": 1},
                "relay": {"poll": timedelta(milliseconds=20), "retry": again},
                "consumer": {"retry_poll": timedelta(milliseconds=20)},
                "drain_on_stop": timedelta(seconds=5),
            }
        ),
        runtime=Runtime(random=Random(run.seed) if run.kill else Random(), reached=progress.reached),
    )


async def carry_out(run: Run) -> None:
    """Do what the run says."""
    conditions, progress, parent = Conditions(), _Progress(run.kill), os.getppid()
    app = ledger_app(run, conditions, progress)
    batches = run.batches()
    async with _started(app, run.patience):
        with Journal(run.folder) as journal:
            while True:
                if run.member:
                    # Relays that have just started go slowly: what the team writes must not outgrow what it can do.
                    await _quiet(app, run, progress)
                batch = next(batches, ())
                shares = [batch[first::_WRITERS] for first in range(_WRITERS)]
                await asyncio.gather(*(_write(app, journal, share) for share in shares))
                await _quiet(app, run, progress)
                if run.heal:
                    await _heal(app, conditions)
                    await _quiet(app, run, progress)
                    # Or else nothing died any more, and a team whose every member has healed would never end.
                    conditions.healed = False
                # When the tests were killed themselves, nobody closes.
                if not run.member or _is_closed(run) or os.getppid() != parent:
                    break
        while run.linger and os.getppid() == parent:  # noqa: ASYNC110 - nobody tells of a parent's death
            await asyncio.sleep(_BREATH_SECONDS)


@asynccontextmanager
async def _started(app: MediatorApp, patience: timedelta) -> AsyncIterator[None]:
    """Run the application; a server that has no connection to spare is asked again, as a supervisor would do."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(patience.total_seconds()):
            while True:
                try:
                    await stack.enter_async_context(app)
                    break
                except DatabaseUnavailableError:
                    await asyncio.sleep(_BREATH_SECONDS)
        yield


def _is_closed(run: Run) -> bool:
    return (run.folder / CLOSED).exists()


async def _quiet(app: MediatorApp, run: Run, progress: _Progress) -> None:
    """Wait until nothing is pending; who does not relay may be the last of a team, and does not wait for ever."""
    begun = time.monotonic()
    while True:
        try:
            return await app.drained(run.patience if "relay" in run.roles else _LOOK_UP)
        except DrainTimeoutError:
            if "relay" not in run.roles and _is_closed(run):
                return None
            if time.monotonic() - max(begun, progress.at) > run.patience.total_seconds():
                sys.stderr.write("\n".join([f"process {os.getpid()} waits:", *tasks_at_work(), ""]))
                raise
        except (DBAPIError, OSError) as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(_BREATH_SECONDS)


async def _write(app: MediatorApp, journal: Journal, intents: Sequence[Intent]) -> None:
    for intent in intents:
        journal.write("intended", intent)
        try:
            await app.mediator.send(MoveMoney(intent.transfer_id, intent.account, intent.amount))
        except TransferRefusedError:
            journal.write("failed", intent)
        except CommitOutcomeUnknownError:
            continue
        except (DBAPIError, OSError) as error:
            if not is_transient(error):
                raise
            # Any error but the one above says that nothing was committed.
            journal.write("failed", intent)
            await asyncio.sleep(_BREATH_SECONDS)
        else:
            journal.write("acked", intent)


async def _heal(app: MediatorApp, conditions: Conditions) -> None:
    conditions.healed = True
    for letter in await app.dead_letters.list(limit=1_000):
        # Another process may be replaying it as well.
        with suppress(OperationRefusedError):
            await app.dead_letters.replay(letter.position, reason="healed")


def main(run: Run) -> None:
    """The process: everything that it says goes into the run's folder."""
    log = os.open(run.folder / "process.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    level = os.environ.get("PROMISES_LOG", "error")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    if run.variant:
        break_it(run.variant)
    try:
        asyncio.run(carry_out(run))
    except BaseException:  # noqa: BLE001 - whatever it is, this is the end of the process
        # The fork server would say that the process failed, and not why.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
