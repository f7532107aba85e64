"""Turns a Markdown page into a program, so that what the documentation shows is what happens.

One page is one program, run in a process of its own and in an empty folder:

* Every block fenced as ```` ```python ```` belongs to it, in order, in the namespace of `__main__`; `await` may stand
  at the top level. All of these share one event loop; a block without runs outside of it, so it may `asyncio.run()`.
* A block whose first line is a comment with a file name (`# shop/ordering/domain.py`) is that file of the program.
  All files are written before anything runs; each is then imported (or run, if it says `if __name__ == "__main__"`)
  where it stands on the page.

A page that looks up one of the variables in `DATABASES_OF` is run with a database of its own there: once on each server
for `DATABASE_URL`, and on the one that is named for the others. Any other variable is missing, and the page fails.

There is no way to leave a block out. What is not meant to run is not fenced as Python.

Line numbers in tracebacks are the page's own: every block is preceded by as many empty lines as stand above it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType

from markdown_it import MarkdownIt

from tests.support.databases import every_database

__all__ = ["DATABASES_OF", "Block", "Outcome", "databases_of", "python_blocks", "run_page"]

FILE_NAME = re.compile(r"#\s*([\w./-]+\.py)\b")
SECONDS = 100

DATABASES_OF: Mapping[str, Sequence[str]] = {
    "DATABASE_URL": every_database(),
    "POSTGRESQL_URL": ("postgresql",),
    "MARIADB_URL": ("mariadb",),
}

# Runs in the page's process: argv holds the page's name, the sources come as a literal on standard input.
PROGRAM = """
import ast, asyncio, importlib, inspect, linecache, pathlib, runpy, sys, traceback
page, steps = sys.argv[1], ast.literal_eval(sys.stdin.read())
sys.argv, namespace = [page], sys.modules["__main__"].__dict__
sys.path.insert(0, "")
sys.excepthook = lambda *error: traceback.print_exception(*error)  # this one reads linecache for our sources, too
linecache.checkcache = lambda *ignored: None
def run_step(loop, kind, source):
    if kind == "file":
        module = source.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
        if '__name__ == "__main__"' in pathlib.Path(source).read_text():
            runpy.run_module(module, run_name="__main__")
        else:
            importlib.import_module(module)
    else:
        linecache.cache[page] = len(source), None, source.splitlines(True), page
        code = compile(source, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE: loop.run(eval(code, namespace))
        else: exec(code, namespace)
with asyncio.Runner() as loop:
    for step in steps: run_step(loop, *step)
"""


@dataclass(frozen=True)
class Block:
    line: int
    source: str

    @property
    def file(self) -> str | None:
        named = FILE_NAME.match(self.source)
        return named[1] if named else None

    @property
    def in_place(self) -> str:
        """The source on the lines that it has on the page."""
        return "\n" * (self.line - 1) + self.source


@dataclass(frozen=True)
class Outcome:
    returncode: int
    output: str


def python_blocks(text: str) -> list[Block]:
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence" and token.map]
    return [
        Block(token.map[0] + 2, token.content)
        for token in fences
        if token.map and re.match(r"\{?\.?(python3?|py)\b", token.info.strip(), re.IGNORECASE)
    ]


def databases_of(blocks: list[Block]) -> list[dict[str, str]]:
    """For each run of a page, the kind of database that each variable is to name; one run of nothing for most pages."""
    source = "".join(block.source for block in blocks)
    used = [variable for variable in DATABASES_OF if f'environ["{variable}"]' in source]
    return [dict(zip(used, kinds, strict=True)) for kinds in product(*(DATABASES_OF[variable] for variable in used))]


def run_page(
    name: str, blocks: list[Block], folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Outcome:
    environment = {key: value for key, value in os.environ.items() if key not in DATABASES_OF}
    steps = [write(block, folder) if block.file else ("script", block.in_place) for block in blocks]
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", PROGRAM, name],
        cwd=folder, env={**environment, **variables}, input=repr(list(dict.fromkeys(steps))), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
    )  # fmt: skip
    return Outcome(done.returncode, f"{name} (line numbers, also of its files, are the page's)\n{done.stdout}")


def write(block: Block, folder: Path) -> tuple[str, str]:
    """A file may be shown in several blocks: each has its place in it."""
    assert block.file
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    for package in Path(block.file).parents[:-1]:
        (folder / package / "__init__.py").touch()
    before = path.read_text() if path.exists() else ""
    path.write_text(before + block.in_place[before.count("\n") :])
    return "file", block.file
