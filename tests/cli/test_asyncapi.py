"""`mediator asyncapi`, run as a user would."""

import json

from tests.cli.projects import Project


def test_a_document_is_printed(project: Project) -> None:
    answer = project.run("asyncapi", "--version", "2.1.0")

    assert (answer.status, answer.err) == (0, "")
    assert (answer.facts["asyncapi"], answer.facts["info"]["version"]) == ("3.1.0", "2.1.0")
    assert list(answer.facts["channels"]) == ["ordering.public.orders.v1"]


def test_a_document_of_each_module_is_written(project: Project) -> None:
    answer = project.run("asyncapi", "--out", "api")

    assert answer.status == 0
    for path in ("asyncapi.json", "asyncapi/stock.json"):
        assert json.loads((project.folder / "api" / path).read_text(encoding="utf-8"))["asyncapi"] == "3.1.0"


def test_an_unknown_module_is_refused(project: Project) -> None:
    answer = project.run("asyncapi", "--module", "stok")

    assert answer.status == 2
    assert "stock" in answer.err


def test_a_folder_is_of_all_modules(project: Project) -> None:
    answer = project.run("asyncapi", "--module", "stock", "--out", "api")

    assert answer.status == 2
    assert not (project.folder / "api").exists()
