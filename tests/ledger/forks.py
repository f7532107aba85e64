"""Processes to kill: from a fork server that has imported everything, or fresh interpreters.

The standard library's fork server forks from a process that never opened a connection and never ran an event loop, so
that a child is a clean process which starts in milliseconds.
"""

import multiprocessing
import pickle
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.ledger.process import Run, main

__all__ = ["KILLED", "finish", "first_ended", "run_forked", "run_in_new_interpreter", "running", "start"]

KILLED = -signal.SIGKILL
"""Exit code of a process that was killed."""
_LONGEST_SECONDS = 90.0
_ROOT = Path(__file__).parents[2]
# The ledger, and what would otherwise be imported with the first connection.
_IMPORTED_BEFORE = (
    "pytest",
    "tests.ledger.process",
    "tests.ledger.books",
    "tests.ledger.reporting",
    "aiosqlite",
    "asyncpg",
    "asyncmy",
    "psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.mysql.asyncmy",
)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED_BEFORE))
    return context


def start(run: Run) -> ForkServerProcess:
    """A running process."""
    process = _context().Process(target=main, args=(run,), daemon=True)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Its exit code, once it has ended."""
    process.join(_LONGEST_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a run did not end within {_LONGEST_SECONDS:g} s")
    code = process.exitcode
    process.close()
    return code


@contextmanager
def running(run: Run) -> Iterator[ForkServerProcess]:
    """A process that does not outlive the block."""
    process = start(run)
    try:
        yield process
    finally:
        # One that was finished is closed.
        with suppress(ValueError):
            process.kill()
            finish(process)


def first_ended(processes: Collection[ForkServerProcess]) -> Sequence[ForkServerProcess]:
    """Wait until at least one of them has ended."""
    ended = wait([process.sentinel for process in processes], _LONGEST_SECONDS)
    if not ended:
        raise TimeoutError(f"none of {len(processes)} runs ended within {_LONGEST_SECONDS:g} s")
    return [process for process in processes if process.sentinel in ended]


def run_forked(run: Run) -> int:
    """Exit code of a forked process."""
    return finish(start(run))


def run_in_new_interpreter(run: Run) -> int:
    """Exit code of a process that begins with nothing."""
    plan = run.folder / "run.pickle"
    plan.write_bytes(pickle.dumps(run))
    command = [sys.executable, "-m", "tests.ledger", str(plan)]
    return subprocess.run(command, cwd=_ROOT, timeout=_LONGEST_SECONDS, check=False).returncode
