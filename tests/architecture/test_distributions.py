"""What is built is what is meant: two distributions, each complete, each with nothing in it that is not its own.

Both are built as `python -m build` does it: the sdist from the tree, the wheel from the sdist. The wheels are then
installed where this checkout is out of reach, and the contracts' wheel where pydantic is all there is.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PYDANTIC = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection")
NOT_SHIPPED = ("tests/", "sample_app/", ".ci/", "requirements/", ".venv")
TEMPLATES = "operations/documents/templates/*"
LEFT_BEHIND = (".git", ".venv*", ".cache", ".*_cache", "__pycache__", ".hypothesis", "dist")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Built once per run, whichever worker asks first."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "distributions"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            tree = tmp_path_factory.mktemp("tree") / "tree"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
            for project in (tree, tree / "contracts"):
                run("-m", "build", "--no-isolation", "--outdir", str(shared), str(project), cwd=tree)
                run("-m", "build", "--no-isolation", "--wheel", "--outdir", f"{shared}/tree", str(project), cwd=tree)
    return shared


@pytest.fixture
def installed(dist: Path, tmp_path: Path) -> Path:
    """A folder with both wheels, installed by pip without any index."""
    target = tmp_path / "installed"
    run("-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), *map(str, dist.glob("*.whl")))
    return target


def test_there_are_two_distributions_of_one_version(dist: Path) -> None:
    assert sorted(path.name for path in dist.iterdir() if path.is_file()) == [
        "mediator_contracts-0.1.0-py3-none-any.whl",
        "mediator_contracts-0.1.0.tar.gz",
        "mediator_toolkit-0.1.0-py3-none-any.whl",
        "mediator_toolkit-0.1.0.tar.gz",
    ]


@pytest.mark.parametrize(("wheel", "package"), [("mediator_toolkit", "mediator"), ("mediator_contracts", "contracts")])
def test_wheel_holds_its_package_and_nothing_else(dist: Path, wheel: str, package: str) -> None:
    names = zipfile.ZipFile(next(dist.glob(f"{wheel}-*.whl"))).namelist()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}

    assert {name.partition("/")[0] for name in names} == {package, f"{wheel}-0.1.0.dist-info"}
    assert modules | {f"{package}/py.typed"} <= set(names)
    data = {name for name in names if not name.endswith((".py", "/py.typed")) and ".dist-info/" not in name}
    assert data == {path.relative_to(ROOT).as_posix() for path in (ROOT / package).glob(TEMPLATES) if path.is_file()}
    assert (package == "mediator") == bool(data)
    assert f"{wheel}-0.1.0.dist-info/licenses/LICENSE" in names


@pytest.mark.parametrize("wheel", ["mediator_toolkit", "mediator_contracts"])
def test_wheel_is_the_same_from_the_tree_and_from_the_sdist(dist: Path, wheel: str) -> None:
    from_sdist, from_tree = next(dist.glob(f"{wheel}-*.whl")), next(dist.glob(f"tree/{wheel}-*.whl"))

    assert contents(from_tree) == contents(from_sdist)


@pytest.mark.parametrize("sdist", ["mediator_toolkit", "mediator_contracts"])
def test_sdist_leaves_tests_and_sample_out(dist: Path, sdist: str) -> None:
    with tarfile.open(next(dist.glob(f"{sdist}-*.tar.gz"))) as archive:
        names = [os.path.normpath(name.partition("/")[2]) for name in archive.getnames()]

    assert {"pyproject.toml", "LICENSE", "README.md", "PKG-INFO"} <= set(names)
    assert [name for name in names if name.startswith(NOT_SHIPPED)] == []


def test_toolkit_says_what_it_needs(dist: Path) -> None:
    facts = metadata(dist, "mediator_toolkit")
    needs = {need.partition(";")[0].strip(): need for need in facts.get_all("Requires-Dist", [])}

    assert facts["Requires-Python"] == ">=3.11"
    assert facts["License-Expression"] == "MIT"
    assert {"mediator-contracts<0.2,>=0.1.0", "injector>=0.24"} <= needs.keys()
    databases, brokers = {"mysql", "postgresql", "psycopg", "sqlite"}, {"kafka", "nats", "rabbitmq", "redis"}
    assert set(facts.get_all("Provides-Extra") or ()) == databases | brokers | {"alembic", "cli", "docs", "sample"}


def test_contracts_need_pydantic_alone(dist: Path) -> None:
    needs = metadata(dist, "mediator_contracts").get_all("Requires-Dist", [])

    assert [need for need in needs if not need.startswith("pydantic>")] == []
    assert len(needs) == 1


def test_contracts_wheel_works_beside_pydantic_alone(dist: Path, tmp_path: Path) -> None:
    target, beside = tmp_path / "installed", tmp_path / "beside"
    wheel = next(dist.glob("mediator_contracts-*.whl"))
    run("-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), str(wheel))
    beside.mkdir()
    for name in PYDANTIC:
        (beside / name).symlink_to(SITE_PACKAGES / name)

    source = (
        "import contracts, sys\n"
        "class Happened(contracts.IntegrationEvent):\n"
        "    '''It happened.'''\n"
        "print(contracts.__file__)\n"
        "assert 'sqlalchemy' not in sys.modules and 'mediator' not in sys.modules\n"
    )
    assert isolated(source, target, beside).strip() == str(target / "contracts/__init__.py")
    with pytest.raises(AssertionError, match="No module named 'sqlmodel'"):
        isolated("import sqlmodel", target, beside)


def test_toolkit_wheel_works_without_the_checkout(installed: Path) -> None:
    source = (
        "import mediator, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(mediator.__path__, 'mediator.'):\n"
        "    if not module.name.endswith('.__main__'): importlib.import_module(module.name)\n"
        "for name in mediator.__all__: getattr(mediator, name)\n"
        "print(mediator.__file__)\n"
    )

    assert isolated(source, installed, SITE_PACKAGES).strip() == str(installed / "mediator/__init__.py")


def test_toolkit_wheel_brings_the_command_line(installed: Path, tmp_path: Path) -> None:
    program = installed / "bin" / "mediator"

    assert "from mediator.cli import main" in program.read_text(encoding="utf-8")
    source = "import sys; sys.argv = ['mediator', 'contracts', '--help']; from mediator.cli import main; main()"
    assert "accept" in isolated(source, installed, SITE_PACKAGES)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(dist: Path, wheel: str) -> "Message[str, str]":
    archive = zipfile.ZipFile(next(dist.glob(f"{wheel}-*.whl")))
    return HeaderParser().parsestr(archive.read(f"{wheel}-0.1.0.dist-info/METADATA").decode())


def isolated(source: str, *path: Path) -> str:
    """Run where `path` and the standard library are all there is: no site-packages, so no editable installs either."""
    lines = f"import sys\nsys.path[:0] = {[str(folder) for folder in path]}\n{source}"
    return run("-I", "-S", "-c", lines, cwd=path[0])


def run(*arguments: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
