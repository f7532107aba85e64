"""The import rules of `pyproject.toml` hold, and each of them notices a breach.

A rule that was never seen to fail may check nothing: a layer with a wrong name is silently no layer at all. So every
case copies the tree, plants one forbidden import in it, and expects the rule to be reported as broken.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
NAMES = {rule["id"]: rule["name"] for rule in RULES}

# (id of the rule, module that is given the import, what it imports)
BREACHES = [
    ("distributions", "contracts.planted", "mediator.errors"),
    ("distributions", "contracts.planted", "sample_app.contracts"),
    ("distributions", "mediator.errors", "sample_app.contracts"),
    ("mediator-layers", "mediator.cli.planted", "mediator.dashboard"),
    ("mediator-layers", "mediator.dashboard.planted", "mediator.testing"),
    ("mediator-layers", "mediator.testing.planted", "mediator.cli"),
    ("mediator-layers", "mediator.hosting.planted", "mediator.cli"),
    ("mediator-layers", "mediator.operations.planted", "mediator.hosting"),
    ("mediator-layers", "mediator.publishing.planted", "mediator.consuming"),
    ("mediator-layers", "mediator.consuming.planted", "mediator.transports"),
    ("mediator-layers", "mediator.transports.planted", "mediator.publishing"),
    ("mediator-layers", "mediator.publishing.planted", "mediator.operations"),
    ("mediator-layers", "mediator.messaging.planted", "mediator.publishing"),
    ("mediator-layers", "mediator.storage.planted", "mediator.consuming"),
    ("mediator-layers", "mediator.application.planted", "mediator.messaging"),
    ("mediator-layers", "mediator.application.planted", "mediator.storage"),
    ("mediator-layers", "mediator.domain.planted", "mediator.application"),
    ("mediator-layers", "mediator.observability.planted", "mediator.application"),
    ("mediator-layers", "mediator.errors", "mediator.domain"),
    ("mediator-layers", "mediator.clock", "mediator.observability"),
    ("contracts-are-light", "contracts.planted", "sqlalchemy"),
    ("contracts-are-light", "contracts.planted", "structlog"),
    ("domain-is-pure", "mediator.domain.planted", "pydantic"),
    ("domain-is-pure", "mediator.domain.planted", "contracts"),
    ("domain-is-pure", "mediator.domain.planted", "mediator.errors"),
    ("injector-in-wiring", "mediator.application.planted", "injector"),
    ("injector-in-wiring", "sample_app.ordering.application.planted", "injector"),
    ("optional-libraries", "mediator.publishing.planted", "aiosqlite"),
    ("optional-libraries", "mediator.publishing.planted", "rich.console"),
    ("sample-modules", "sample_app.ordering.application.planted", "sample_app.inventory"),
    ("sample-modules", "sample_app.inventory.domain.planted", "sample_app.billing"),
    ("sample-modules", "sample_app.billing.infrastructure.planted", "sample_app.notifications"),
    ("sample-modules", "sample_app.notifications.application.planted", "sample_app.ordering.domain"),
    ("sample-modules", "sample_app.contracts.planted", "sample_app.ordering"),
    ("sample-modules", "sample_app.ordering.application.planted", "sample_app.story"),
    ("sample-layers", "sample_app.ordering.domain.planted", "sample_app.ordering.application"),
    ("sample-layers", "sample_app.inventory.application.planted", "sample_app.inventory.infrastructure"),
    ("sample-layers", "sample_app.billing.domain.planted", "sample_app.billing.infrastructure"),
    ("sample-layers", "sample_app.notifications.domain.planted", "sample_app.notifications.application"),
    ("sample-domain", "sample_app.ordering.domain.planted", "mediator.publishing"),
    ("sample-domain", "sample_app.billing.domain.planted", "structlog"),
    ("sample-domain", "sample_app.inventory.domain.planted", "sample_app.contracts"),
    ("sample-contracts", "sample_app.contracts.planted", "mediator.domain"),
    ("sample-contracts", "sample_app.contracts.planted", "sqlmodel"),
]


def test_every_rule_holds() -> None:
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout


def test_every_rule_has_a_breach_below() -> None:
    assert {rule for rule, _, _ in BREACHES} == NAMES.keys()


@pytest.mark.parametrize(("rule", "importer", "imported"), BREACHES)
def test_breach_is_noticed(tmp_path: Path, rule: str, importer: str, imported: str) -> None:
    copy_of_the_tree(tmp_path)
    plant(tmp_path, importer, imported)

    done = lint_imports(tmp_path, "--contract", rule)

    assert done.returncode == 1, done.stdout
    assert f"{NAMES[rule]} BROKEN" in done.stdout
    assert f"{importer} -> {imported.removesuffix('.console')} (l." in done.stdout


def test_package_that_no_layer_names_is_noticed(tmp_path: Path) -> None:
    copy_of_the_tree(tmp_path)
    module_file(tmp_path, "mediator.unheard_of.planted")

    done = lint_imports(tmp_path, "--contract", "mediator-layers")

    assert done.returncode == 1, done.stdout
    assert "unheard_of" in done.stdout


def copy_of_the_tree(target: Path) -> None:
    for package in ("contracts", "mediator", "sample_app"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "tests/architecture").mkdir(parents=True)
    shutil.copy(ROOT / "tests/architecture/contract_types.py", target / "tests/architecture")
    shutil.copy(ROOT / "pyproject.toml", target)


def plant(root: Path, importer: str, imported: str) -> None:
    """Adds the import, and whatever of the two modules' packages is not there yet."""
    path = module_file(root, importer)
    if imported.partition(".")[0] in ("contracts", "mediator", "sample_app"):
        module_file(root, imported)
    path.write_text(f"{path.read_text()}\nimport {imported}\n")


def module_file(root: Path, module: str) -> Path:
    package = root.joinpath(*module.split("."))
    for existing in (package.with_suffix(".py"), package / "__init__.py"):
        if existing.exists():
            return existing
    for folder in reversed(package.relative_to(root).parents[:-1]):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "__init__.py").touch()
    package.with_suffix(".py").touch()
    return package.with_suffix(".py")


def lint_imports(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1", "COLUMNS": "300"}
    return subprocess.run(
        [*command, *arguments], cwd=root, env=environment, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=100,
    )  # fmt: skip
