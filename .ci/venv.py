"""Sets up `.venv` with one of the pinned requirement sets: `python .ci/venv.py runtime` (or `dev`).

Standard library only, because it runs on a machine that has nothing but Python. It promises that a stamp
(`.venv/.runtime`, `.venv/.dev`) exists only when that set is installed completely:

* A run that is interrupted leaves no `.venv/.intact`, and the next run starts from an empty environment. (pip takes
  a half-installed package for an installed one, so going on where it stopped is not safe.)
* Two runs at the same time wait for each other; the second finds the work done.
* `dev` contains `runtime`, so installing it writes both stamps, and an environment is never made smaller.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
INTACT = VENV / ".intact"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONTAINS = {"runtime": ("runtime",), "dev": ("dev", "runtime")}
PROJECTS = ("contracts", ".")


def main() -> int:
    wanted = sys.argv[1]
    with only_one_at_a_time():
        if not up_to_date(wanted):
            set_up(wanted)
    return 0


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up_to_date(wanted: str) -> bool:
    stamp = VENV / f".{wanted}"
    if not (stamp.exists() and INTACT.exists() and runs()):
        return False
    sources = [ROOT / "requirements" / f"{wanted}.txt", *(ROOT / project / "pyproject.toml" for project in PROJECTS)]
    return all(source.stat().st_mtime <= stamp.stat().st_mtime for source in sources)


def runs() -> bool:
    """False when there is none, or when the Python it was made with is gone."""
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", ""], check=False).returncode == 0


def set_up(wanted: str) -> None:
    started = time.monotonic()
    say(f"Setting up .venv ({wanted}) with Python {sys.version.split()[0]}, which takes up to a minute ...")
    if not (INTACT.exists() and runs()):
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
    INTACT.unlink(missing_ok=True)
    pip("--require-hashes", "--requirement", ROOT / "requirements" / f"{wanted}.txt")
    editables = [part for project in PROJECTS for part in ("--editable", ROOT / project)]
    pip("--no-deps", "--no-build-isolation", *editables)
    INTACT.touch()
    for contained in CONTAINS[wanted]:
        (VENV / f".{contained}").touch()
    say(f"Ready after {time.monotonic() - started:.0f} s.")


def pip(*arguments: str | Path) -> None:
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str | Path) -> None:
    """Silent unless it fails: then everything that the command printed is shown."""
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        say(done.stdout)
        say("The set-up failed; the next run starts afresh.")
        raise SystemExit(done.returncode)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
