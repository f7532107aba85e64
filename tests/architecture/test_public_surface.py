"""What importing the packages costs and offers: every promised name is there, and nothing heavy is loaded for it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

EVERY_NAME_EXISTS = """
import importlib, json, pkgutil, sys, warnings
missing = []
for name in ("mediator", "contracts"):
    package = importlib.import_module(name)
    found = [name, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{name}.") if m.name[-9:] != ".__main__")]
    for module in map(importlib.import_module, found):
        missing += [f"{module.__name__}.{n}" for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
print(json.dumps([len(found), missing]))
"""

# Imports only what stands in `allowed` and the standard library: what is installed beside it is as good as absent.
ONLY = """
import importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed | sys.stdlib_module_names and "_sysconfigdata" not in name:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_every_name_in_all_exists() -> None:
    modules, missing = json.loads(python(EVERY_NAME_EXISTS))

    assert modules > 0
    assert missing == []


def test_import_mediator_is_light() -> None:
    loaded = set(json.loads(python("import json, sys, mediator; print(json.dumps(sorted(sys.modules)))")))

    assert loaded & {"sqlalchemy", "sqlmodel", "injector", "aiosqlite", "anyio"} == set()


def test_domain_needs_the_standard_library_only() -> None:
    assert python(f"allowed = {{'mediator'}}\n{ONLY}\nimport mediator.domain; print('fine')").strip() == "fine"


def test_contracts_need_pydantic_only() -> None:
    pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    every_module = (
        "import contracts, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(contracts.__path__, 'contracts.'):\n"
        "    if not module.name.endswith('.__main__'): importlib.import_module(module.name)\n"
        "print('fine')\n"
    )

    assert python(f"allowed = {pydantic | {'contracts'}}\n{ONLY}\n{every_module}").strip() == "fine"


def test_what_is_not_allowed_is_absent() -> None:
    source = f"allowed = set()\n{ONLY}\ntry: import pydantic\nexcept ModuleNotFoundError as absent: print(absent)"

    assert python(source).strip() == "pydantic is not installed here"


def python(source: str) -> str:
    """What the source prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
