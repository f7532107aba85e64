"""Every module of `mediator` and `contracts` keeps the rules of the house, and every rule notices a breach.

The lists of exceptions are exact: an entry that is no longer needed fails as well.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import source_rules as rules

ROOT = Path(__file__).resolve().parents[2]

# Supervised loops, and where code of the application fails: "file: function". They record what they caught.
MAY_CATCH_EVERYTHING = {
    "mediator/consuming/consumer.py: Consumer._deliver",
    "mediator/consuming/consumer.py: Consumer._run",
    "mediator/consuming/idempotent_consumer.py: IdempotentConsumer._first_attempt",
    "mediator/consuming/idempotent_consumer.py: IdempotentConsumer.until_possible",
    "mediator/consuming/idempotent_consumer.py: IdempotentConsumer.retry",
    "mediator/consuming/group_commit.py: GroupCommit._handle",
    "mediator/consuming/group_commit.py: GroupCommit.deliver",
    "mediator/consuming/lanes.py: Lanes._run",
    "mediator/consuming/reading.py: Reader.read",
    "mediator/consuming/retries.py: Retries._retry",
    "mediator/hosting/app.py: MediatorApp._died",
    "mediator/hosting/composition.py: _injector",
    "mediator/hosting/discovery.py: import_one",
    "mediator/hosting/running.py: Running.pending",
    "mediator/messaging/catalog.py: Received.as_class",
    "mediator/messaging/foreign.py: _built",
    "mediator/messaging/supervision.py: keep_running",
    "mediator/messaging/upcasting.py: upcast",
    "mediator/storage/database.py: Database.open",
    "mediator/storage/slots.py: LockSession.use",
    "mediator/transports/sql/line.py: Line.within",
}
MAY_ASK_THE_CLOCK = {"mediator/clock.py"}
# Discovery and the lazy names of `import mediator`: names from the source, never from the wire.
BY_NAME = ("importlib", "pkgutil", "runpy")
MAY_IMPORT_BY_NAME = {"mediator/__init__.py", "mediator/hosting/discovery.py"}


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def breaches(rule: rules.Rule, *packages: str) -> list[str]:
    return [f"{path}:{line} {what}" for path, module in modules(*packages) for line, what in rule(module)]


def test_there_are_modules_to_look_at() -> None:
    assert {"mediator/__init__.py", "contracts/__init__.py"} <= {path for path, _ in modules("mediator", "contracts")}


def test_every_module_has_a_docstring() -> None:
    assert breaches(rules.missing_docstring, "mediator", "contracts", "sample_app") == []


def test_every_public_name_is_in_all() -> None:
    assert breaches(rules.names_missing_in_all, "mediator", "contracts") == []


def test_nothing_is_loaded_that_could_be_code() -> None:
    assert breaches(rules.unsafe_loading, "mediator", "contracts", "sample_app") == []


def test_only_the_clock_knows_time_and_chance() -> None:
    asking = {path for path, module in modules("mediator") if any(rules.clocks_and_dice(module))}

    assert asking - MAY_ASK_THE_CLOCK == set(), breaches(rules.clocks_and_dice, "mediator")


def test_only_supervised_loops_catch_everything() -> None:
    catching = {
        f"{path}: {what.partition(':')[0]}"
        for path, module in modules("mediator", "contracts", "sample_app")
        for _, what in rules.broad_excepts(module)
    }

    assert catching == MAY_CATCH_EVERYTHING, breaches(rules.broad_excepts, "mediator", "contracts", "sample_app")


def test_only_discovery_imports_by_name() -> None:
    importing = {path for path, module in modules("mediator", "contracts") if any(rules.uses_of(module, BY_NAME))}

    assert importing <= MAY_IMPORT_BY_NAME


BROKEN: list[tuple[rules.Rule, str, list[str]]] = [
    (rules.missing_docstring, "import os", ["the module has no docstring"]),
    (rules.missing_docstring, "' '", ["the module has no docstring"]),
    (rules.names_missing_in_all, "class A: ...\n__all__ = ['B']\ndef B(): ...", ["A is public and not in __all__"]),
    (rules.names_missing_in_all, "async def a(): ...", ["a is public and not in __all__"]),
    (rules.names_missing_in_all, "LIMIT = 3", ["LIMIT is public and not in __all__"]),
    (rules.names_missing_in_all, "LIMIT: int = 3", ["LIMIT is public and not in __all__"]),
    (rules.names_missing_in_all, "A = 3\n__all__ = ['A', 'A']", ["A is in __all__ twice"]),
    (rules.clocks_and_dice, "import time\ntime.time()", ["time.time"]),
    (rules.clocks_and_dice, "import time as t\nt.monotonic()", ["time.monotonic"]),
    (rules.clocks_and_dice, "from time import monotonic as now", ["time.monotonic"]),
    (rules.clocks_and_dice, "import datetime\ndatetime.datetime.now()", ["datetime.datetime.now"]),
    (rules.clocks_and_dice, "from datetime import datetime as dt\nclock = dt.utcnow", ["datetime.datetime.utcnow"]),
    (rules.clocks_and_dice, "from datetime import date\ndate.today()", ["datetime.date.today"]),
    (rules.clocks_and_dice, "import random\nrandom.random()", ["random.random"]),
    (rules.clocks_and_dice, "from random import choice", ["random.choice"]),
    (rules.clocks_and_dice, "from random import Random\nRandom(7)", ["random.Random()"]),
    (rules.clocks_and_dice, "import uuid\ndef f(): return uuid.uuid4()", ["uuid.uuid4"]),
    (rules.clocks_and_dice, "from uuid_utils.compat import uuid7", ["uuid_utils.compat.uuid7"]),
    (rules.unsafe_loading, "import pickle", ["pickle"]),
    (rules.unsafe_loading, "from yaml import safe_load", ["yaml.safe_load"]),
    (rules.unsafe_loading, "eval('1')", ["builtins.eval"]),
    (rules.unsafe_loading, "run = exec", ["builtins.exec"]),
    (rules.broad_excepts, "try: f()\nexcept Exception: pass", ["<module>: a broad except"]),
    (rules.broad_excepts, "def f():\n try: g()\n except: pass", ["f: a broad except"]),
    (
        rules.broad_excepts,
        "class A:\n def f(self):\n  try: g()\n  except (OSError, BaseException): pass",
        ["A.f: a broad except"],
    ),
    (
        rules.broad_excepts,
        "import contextlib\nwith contextlib.suppress(Exception): g()",
        ["<module>: a broad suppress"],
    ),
]


@pytest.mark.parametrize(("rule", "source", "expected"), BROKEN)
def test_breach_is_noticed(rule: rules.Rule, source: str, expected: list[str]) -> None:
    assert sorted({what for _, what in rule(ast.parse(source))}) == expected


KEPT: list[tuple[rules.Rule, str]] = [
    (rules.missing_docstring, '"""What it is for."""'),
    (rules.names_missing_in_all, "__all__ = ['A', 'B']\nclass A: ...\nB = 1\n_c = 2\ndef _d(): ..."),
    (
        rules.names_missing_in_all,
        "import structlog\nfrom typing import TypeVar\nT = TypeVar('T')\nlogger = structlog.get_logger()",
    ),
    (rules.clocks_and_dice, "import time\nimport uuid\n'time.time()'\ntime.struct_time\nuuid.UUID\nself.clock.time()"),
    (rules.clocks_and_dice, "from datetime import datetime\ndatetime.fromisoformat('2026-01-01')"),
    (rules.clocks_and_dice, "from random import Random\ndef jitter(random: Random): return random.uniform(0, 1)"),
    (rules.unsafe_loading, "import json\nconnection.exec('x')\nre.compile('x')"),
    (rules.broad_excepts, "try: f()\nexcept BaseException:\n undo()\n raise"),
    (rules.broad_excepts, "try: f()\nexcept (OSError, ValueError): pass"),
]


@pytest.mark.parametrize(("rule", "source"), KEPT)
def test_what_is_right_is_left_alone(rule: rules.Rule, source: str) -> None:
    assert list(rule(ast.parse(source))) == []
