"""What a command looks at, and what it says when that cannot work."""

import subprocess
import sys

import pytest

from tests.cli.projects import Project


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("wiring", "write module:attribute"),
        ("wiring:", "write module:attribute"),
        ("nowhere:app", "importing nowhere failed with ModuleNotFoundError"),
        ("wiring:other", "wiring has no attribute other"),
        ("wiring:Module", "calling it without arguments failed"),
        ("wiring:__doc__", "it is a NoneType, and no MediatorApp"),
    ],
)
def test_a_wrong_application_is_refused(project: Project, app: str, told: str) -> None:
    answer = project.run("asyncapi", "--app", app)

    assert (answer.status, answer.out) == (2, "")
    assert f"app = '{app}' cannot work" in answer.err
    assert told in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('aap = "wiring:app"', "tool.mediator.aap"),
        ("app = 3", "tool.mediator.app"),
        ('contracts = "shop_contracts"', "tool.mediator.contracts"),
        ('app = "wiring', "pyproject.toml"),
        ('contracts = ["nowhere"]', "importing nowhere failed"),
        ("", "name what to look at"),
    ],
)
def test_wrong_settings_are_refused(project: Project, settings: str, told: str) -> None:
    project.configure(settings)

    answer = project.run("contracts", "check")

    assert (answer.status, answer.out) == (2, "")
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_an_application_without_contracts_has_no_baseline_by_itself(project: Project) -> None:
    project.configure('app = "wiring:app"')

    without = project.run("contracts", "check")
    named = project.run("contracts", "check", "--baseline", "elsewhere")

    assert without.status == 2
    assert "--baseline DIR" in without.err
    assert "NOT_ACCEPTED: ordering.order-placed v1" in named.out


def test_contracts_may_be_a_single_module(project: Project) -> None:
    (project.folder / "shop_contracts" / "__init__.py").rename(project.folder / "orders.py")
    project.configure('contracts = ["orders"]')

    assert project.run("contracts", "accept").status == 0
    assert (project.folder / "baseline" / "ordering.order-placed.v1.json").is_file()


def test_a_faulty_wiring_is_told(project: Project) -> None:
    project.change("stock/handlers.py", "async def handle(self", "async def handel(self")

    answer = project.run("asyncapi")

    assert answer.status == 2
    assert "stock.handlers.ReserveStock" in answer.err


def test_a_function_may_give_the_application(project: Project) -> None:
    assert project.run("asyncapi", "--app", "wiring:make").status == 0


def test_the_settings_of_a_folder_above_count(project: Project) -> None:
    below = project.folder / "stock"

    assert project.run("contracts", "accept", folder=below).status == 0
    assert [file.name for file in project.baseline.iterdir()] == ["ordering.order-placed.v1.json"]


def test_a_damaged_baseline_is_refused(project: Project) -> None:
    project.run("contracts", "accept")
    (file,) = project.baseline.iterdir()
    file.write_text("{", encoding="utf-8")

    answer = project.run("contracts", "check")

    assert answer.status == 2
    assert str(file) in answer.err


def test_a_folder_that_cannot_be_made_is_told(project: Project) -> None:
    answer = project.run("contracts", "export", "--out", "wiring.py/out")

    assert (answer.status, answer.out) == (2, "")
    assert "wiring.py" in answer.err
    assert "Traceback" not in answer.err


def test_an_unknown_option_is_wrong_usage(project: Project) -> None:
    assert project.run("contracts", "check", "--loud").status == 2


def test_without_the_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['typer'] = None; from mediator.cli import main; main()"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "pip install 'mediator-toolkit[cli]'" in done.stderr
