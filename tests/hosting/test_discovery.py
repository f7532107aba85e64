import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from textwrap import dedent

import pytest

from mediator import Module
from tests.hosting.wirings import app_of, faults_of

_number = count(1)
HANDLER = """
    from dataclasses import dataclass
    from mediator import Command, CommandHandler

    @dataclass(frozen=True)
    class {name}(Command[None]):
        pass

    class {name}Handler(CommandHandler[{name}, None]):
        async def handle(self, command: {name}) -> None: ...
"""
MakePackage = Callable[[dict[str, str]], str]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Packages on disk, importable for the time of the test."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(files: dict[str, str]) -> str:
        name = f"discovered_{next(_number)}"
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        made.append(name)
        return name

    yield make
    for module in list(sys.modules):
        if module.partition(".")[0] in made:
            del sys.modules[module]


def test_handlers_are_found_in_every_module_below_the_package(make_package: MakePackage) -> None:
    package = make_package(
        {
            "__init__.py": HANDLER.format(name="Zero"),
            "first.py": HANDLER.format(name="One"),
            "below/__init__.py": "",
            "below/second.py": HANDLER.format(name="Two"),
            "below/deeper/__init__.py": HANDLER.format(name="Three"),
        }
    )

    registry = app_of(Module("bank", package=package)).registry

    assert {command.__name__ for command in registry.commands} == {"Zero", "One", "Two", "Three"}


def test_a_package_may_be_a_single_module(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "", "single.py": HANDLER.format(name="Only")})

    registry = app_of(Module("bank", package=f"{package}.single")).registry

    assert [command.__name__ for command in registry.commands] == ["Only"]


def test_handlers_below_a_folder_without_init_are_not_left_out_in_silence(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "", "application/handlers.py": HANDLER.format(name="Forgotten")})

    registry = app_of(Module("bank", package=package)).registry

    assert [command.__name__ for command in registry.commands] == ["Forgotten"]


def test_what_is_excluded_is_not_imported_with_all_below_it(make_package: MakePackage) -> None:
    package = make_package(
        {
            "__init__.py": HANDLER.format(name="Kept"),
            "migrations/__init__.py": "raise RuntimeError('not without its own configuration')",
            "migrations/first.py": "raise RuntimeError('not without its own configuration')",
            "below/__init__.py": HANDLER.format(name="Below"),
            "below/scripts.py": "raise RuntimeError('not without its own configuration')",
        }
    )

    excluded = (f"{package}.migrations", f"{package}.below.scripts")
    registry = app_of(Module("bank", package=package, exclude=excluded)).registry

    assert {command.__name__ for command in registry.commands} == {"Kept", "Below"}


def test_a_main_module_is_not_run(make_package: MakePackage) -> None:
    package = make_package(
        {
            "__init__.py": "",
            "__main__.py": "raise SystemExit('started')",
            "below/__init__.py": "",
            "below/__main__.py": "raise SystemExit('started')",
            "handlers.py": HANDLER.format(name="One"),
        }
    )

    assert len(app_of(Module("bank", package=package)).registry.commands) == 1


def test_a_class_belongs_to_the_module_that_defines_it(make_package: MakePackage) -> None:
    package = make_package(
        {
            "__init__.py": "from .handlers import *",
            "handlers.py": HANDLER.format(name="One"),
            "again.py": "from .handlers import OneHandler, One",
        }
    )

    assert len(app_of(Module("bank", package=package)).registry.commands) == 1


def test_abstract_and_generic_bases_are_not_handlers(make_package: MakePackage) -> None:
    package = make_package(
        {
            "__init__.py": """
                from abc import abstractmethod
                from dataclasses import dataclass
                from typing import Generic, TypeVar
                from mediator import Command, CommandHandler

                @dataclass(frozen=True)
                class One(Command[None]):
                    pass

                C = TypeVar("C", bound=Command[None])

                class Logged(CommandHandler[C, None]):
                    async def handle(self, command: C) -> None:
                        await self.work(command)

                    @abstractmethod
                    async def work(self, command: C) -> None: ...

                class OneHandler(Logged[One]):
                    async def work(self, command: One) -> None: ...
            """
        }
    )

    registry = app_of(Module("bank", package=package)).registry

    assert [(message.__name__, entry.handler_class.__name__) for message, entry in registry.commands.items()] == [
        ("One", "OneHandler")
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def half(:", "SyntaxError"),
    ],
)
@pytest.mark.parametrize("file", ["broken.py", "below/__init__.py"])
def test_a_module_that_cannot_be_imported_is_named(make_package: MakePackage, file: str, text: str, error: str) -> None:
    package = make_package({"__init__.py": "", "handlers.py": HANDLER.format(name="One"), file: text})

    (fault,) = faults_of(Module("bank", package=package))

    broken = f"{package}.{file.removesuffix('.py').removesuffix('/__init__')}"
    assert (fault.kind, fault.where) == ("import", "module 'bank'")
    assert f"importing {broken} failed with {error}" in fault.what


def test_every_module_that_cannot_be_imported_is_named(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "", "one.py": "1 / 0", "two.py": "import no_such_library"})

    faults = faults_of(Module("bank", package=package), Module("till", package="no_such_package"))

    assert [(fault.kind, fault.where) for fault in faults] == [
        ("import", "module 'bank'"),
        ("import", "module 'bank'"),
        ("import", "module 'till'"),
    ]


def test_a_package_that_cannot_be_imported_is_named(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "raise RuntimeError('no settings')", "one.py": ""})

    (fault,) = faults_of(Module("bank", package=package))

    assert f"importing {package} failed with RuntimeError: no settings" in fault.what


def test_a_module_that_ends_the_program_is_a_fault(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "", "script.py": "raise SystemExit('usage: script FILE')"})

    (fault,) = faults_of(Module("bank", package=package))

    assert f"importing {package}.script failed with SystemExit: usage: script FILE" in fault.what


def test_contracts_packages_are_imported_too(make_package: MakePackage) -> None:
    contracts = make_package(
        {
            "__init__.py": "",
            "events.py": """
                from contracts import IntegrationEvent, event_topic

                @event_topic("accounts", domain="bank")
                class OpenedV1(IntegrationEvent):
                    owner: str
            """,
        }
    )
    package = make_package({"__init__.py": HANDLER.format(name="One")})

    app = app_of(Module("bank", package=package), contracts=[contracts])

    assert [entry.address for entry in app.registry.catalog] == ["test.bank.public.accounts.v1"]


def test_a_contracts_package_that_cannot_be_imported_is_named(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": ""})

    (fault,) = faults_of(Module("bank", package=package), contracts=["no_such_contracts"])

    assert (fault.kind, fault.where) == ("import", "contracts package 'no_such_contracts'")


def test_packages_that_lie_in_one_another_are_refused(make_package: MakePackage) -> None:
    package = make_package({"__init__.py": "", "till/__init__.py": ""})

    (fault,) = faults_of(Module("bank", package=package), Module("till", package=f"{package}.till"))

    assert fault.what == f"its package {package}.till overlaps with {package} of module 'bank'"


def test_wiring_opens_no_database(make_package: MakePackage, tmp_path: Path) -> None:
    package = make_package({"__init__.py": HANDLER.format(name="One")})
    file = tmp_path / "shop.db"

    app = app_of(Module("bank", package=package), database=f"sqlite+aiosqlite:///{file}")

    assert app.registry.commands
    assert not file.exists()
