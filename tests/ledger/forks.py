"""Processes to kill: from a fork server that has imported everything, or fresh interpreters.

The standard library's fork server forks from a process that never opened a connection and never ran an event loop, so
that a child is a clean process which starts in milliseconds.
"""

import multiprocessing
import pickle
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.ledger.process import Run, main

__all__ = ["KILLED", "finish", "run_forked", "run_in_new_interpreter", "start"]

KILLED = -signal.SIGKILL
"""Exit code of a process that was killed."""
_LONGEST_SECONDS = 90.0
_ROOT = Path(__file__).parents[2]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.ledger.process", "tests.ledger.books", "tests.ledger.reporting"])
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


def run_forked(run: Run) -> int:
    """Exit code of a forked process."""
    return finish(start(run))


def run_in_new_interpreter(run: Run) -> int:
    """Exit code of a process that begins with nothing."""
    plan = run.folder / "run.pickle"
    plan.write_bytes(pickle.dumps(run))
    command = [sys.executable, "-m", "tests.ledger", str(plan)]
    return subprocess.run(command, cwd=_ROOT, timeout=_LONGEST_SECONDS, check=False).returncode
