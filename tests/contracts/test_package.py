"""The package stands alone: pydantic and the standard library, typed, light to import."""

import re
import subprocess
import sys
from pathlib import Path

import contracts

PACKAGE = Path(contracts.__file__).parent


def run(code: str) -> str:
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_where_the_toolkit_and_its_libraries_are_missing() -> None:
    out = run(
        "import sys\n"
        "for name in ('sqlmodel', 'sqlalchemy', 'injector', 'structlog', 'mediator', 'anyio', 'uuid_utils'):\n"
        "    sys.modules[name] = None\n"
        "import contracts; print(contracts.IntegrationEvent().event_id.version)"
    )

    assert out.strip() == "7"


def test_importing_it_loads_nothing_beyond_pydantic() -> None:
    out = run(
        "import pydantic, sys\n"
        "class Warm(pydantic.BaseModel):\n    a: pydantic.AwareDatetime\n"
        "before = set(sys.modules); import contracts; print(*sorted(set(sys.modules) - before))"
    )

    loaded = {name.partition(".")[0] for name in out.split()} - sys.stdlib_module_names
    assert loaded == {"contracts"}


def test_importing_it_adds_its_own_modules_and_no_more() -> None:
    # Time is measured and not tested: what it costs is what it loads.
    out = run(
        "import pydantic, sys\n"
        "class Warm(pydantic.BaseModel):\n    a: pydantic.AwareDatetime\n"
        "before = set(sys.modules); import contracts; print(*sorted(set(sys.modules) - before))"
    )

    own = {f"contracts.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem != "__init__"} | {"contracts"}
    assert set(out.split()) == own


def test_every_public_name_exists_and_none_is_missing() -> None:
    imported = {
        name for name, value in vars(contracts).items() if getattr(value, "__module__", "").startswith("contracts.")
    }

    assert imported == set(contracts.__all__)
    assert contracts.__all__ == sorted(contracts.__all__)


def test_it_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_example_in_its_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(encoding="utf-8"), re.DOTALL)

    assert blocks
    for block in blocks:
        run(block)
