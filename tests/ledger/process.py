"""One run of the ledger in a process of its own, which may be killed at a crash point.

A run goes on with whatever earlier runs left behind, lets several writers move money at the same time, waits until
nothing is pending, and may then heal the strict handler and replay what died.
"""

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import structlog

from mediator import MediatorApp, MediatorSettings, Module, RetryPolicy, Runtime
from mediator.testing import kill_at
from tests.ledger.bookkeeper import Conditions
from tests.ledger.journal import Intent, Journal
from tests.ledger.payments import MoveMoney, TransferRefusedError
from tests.ledger.tables import database_of
from tests.ledger.transport import ShakyTransport
from tests.ledger.variants import break_it

__all__ = ["Run", "carry_out", "ledger_app", "main"]

_WRITERS = 3


@dataclass(frozen=True)
class Run:
    """What a process is to do."""

    folder: Path
    seed: int
    intents: Sequence[Intent] = ()
    kill: tuple[str, int] | None = None
    """Crash point, and the how manieth time it is reached."""
    variant: str | None = None
    heal: bool = False
    refusals: float = 0.2
    set_aside_for: timedelta = timedelta(milliseconds=20)
    """How long a refused row waits."""
    linger: bool = False
    """Stay when everything is done, until somebody kills the process."""
    patience: timedelta = timedelta(seconds=60)


def ledger_app(run: Run, conditions: Conditions) -> MediatorApp:
    """The application."""

    def bind(binder: Any) -> None:
        binder.bind(Conditions, to=conditions)

    again = RetryPolicy.fixed(100, run.set_aside_for)
    return MediatorApp(
        "bank",
        modules=[
            Module("payments", package="tests.ledger.payments"),
            Module("books", package="tests.ledger.books", bindings=[bind]),
            Module("reporting", package="tests.ledger.reporting", bindings=[bind]),
        ],
        database=f"sqlite+aiosqlite:///{database_of(run.folder)}",
        environment="test",
        transport=ShakyTransport(Random(run.seed), run.refusals),
        settings=MediatorSettings.model_validate(
            {
                "relay": {"poll": timedelta(milliseconds=20), "retry": again},
                "consumer": {"retry_poll": timedelta(milliseconds=20)},
                "drain_on_stop": timedelta(seconds=5),
            }
        ),
        runtime=Runtime(random=Random(run.seed), reached=kill_at(*run.kill)) if run.kill else Runtime(),
    )


async def carry_out(run: Run) -> None:
    """Do what the run says."""
    conditions = Conditions()
    app = ledger_app(run, conditions)
    async with app:
        with Journal(run.folder) as journal:
            shares = [run.intents[first::_WRITERS] for first in range(_WRITERS)]
            await asyncio.gather(*(_write(app, journal, share) for share in shares))
        await app.drained(run.patience)
        if run.linger:
            await asyncio.Event().wait()
        if run.heal:
            conditions.healed = True
            for letter in await app.dead_letters.list(limit=1_000):
                await app.dead_letters.replay(letter.position, reason="healed")
            await app.drained(run.patience)


async def _write(app: MediatorApp, journal: Journal, intents: Sequence[Intent]) -> None:
    for intent in intents:
        journal.write("intended", intent)
        try:
            await app.mediator.send(MoveMoney(intent.transfer_id, intent.account, intent.amount))
        except TransferRefusedError:
            journal.write("failed", intent)
        else:
            journal.write("acked", intent)


def main(run: Run) -> None:
    """The process: everything that it says goes into the run's folder."""
    log = os.open(run.folder / "process.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if run.variant:
        break_it(run.variant)
    try:
        asyncio.run(carry_out(run))
    except BaseException:  # noqa: BLE001 - whatever it is, this is the end of the process
        # The fork server would say that the process failed, and not why.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
