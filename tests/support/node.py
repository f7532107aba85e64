"""Node.js, for what is only to be had there: the AsyncAPI initiative's own parser.

Its packages are those of the lock file beside the script; npm puts them under `.cache` when a test first asks for them,
and again when the lock file has changed. `.ci/run` sees to it that there is a Node.js.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from tests.support.databases import Unreachable

__all__ = ["asyncapi_parser_says"]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests/operations/documents/node"
_INSTALL_SECONDS = 100
_RUN_SECONDS = 60


def asyncapi_parser_says(paths: Iterable[Path]) -> Mapping[str, list[str]]:
    """What `@asyncapi/parser` has to say against each document; raises Unreachable."""
    node = _program("node")
    done = subprocess.run(
        [node, _installed() / "validate.mjs"], input=json.dumps([str(path) for path in paths]), check=False,
        capture_output=True, text=True, timeout=_RUN_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def _installed() -> Path:
    """A folder with the script and its packages; complete, or not there."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    target = ROOT / ".cache" / f"node-{sha256(content).hexdigest()[:12]}"
    target.parent.mkdir(exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            unfinished = target.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(SOURCES, unfinished)
            command = [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                command, cwd=unfinished, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=_INSTALL_SECONDS,
            )  # fmt: skip
            if done.returncode != 0:
                raise Unreachable("node", f"npm could not install @asyncapi/parser: {done.stdout[-500:]}")
            unfinished.rename(target)
    return target


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unreachable("node", f"{name} is needed: install Node.js 18 or newer, with npm")
    return found
