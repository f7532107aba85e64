"""`mediator contracts …`, run as a user would."""

import json

from tests.cli.projects import Project


def test_what_nobody_has_accepted_yet_is_found(project: Project) -> None:
    answer = project.run("contracts", "check")

    assert answer.status == 1
    assert "unaccepted NOT_ACCEPTED: ordering.order-placed v1" in answer.out


def test_what_is_accepted_passes_until_it_breaks(project: Project) -> None:
    accepted = project.run("contracts", "accept")
    before = project.run("contracts", "check")

    project.change("shop_contracts/__init__.py", 'note: str = ""', "note: int")
    after = project.run("contracts", "check")

    assert (accepted.status, before.status, after.status) == (0, 0, 1)
    assert "added: ordering.order-placed v1" in accepted.out
    assert "1 events: 0 breaking, 0 unaccepted" in before.out
    assert "breaking TYPE_CHANGED: ordering.order-placed v1 at note (backward)" in after.out
    assert "read by: stock.reserve-stock" in after.out
    assert "OrderPlacedV2" in after.out


def test_a_breaking_change_is_accepted_with_a_reason_only(project: Project) -> None:
    project.run("contracts", "accept")
    (file,) = project.baseline.iterdir()
    before = file.read_bytes()
    project.change("shop_contracts/__init__.py", 'note: str = ""', "note: int")

    refused = project.run("contracts", "accept")
    unchanged = file.read_bytes()
    accepted = project.run("contracts", "accept", "--reason", "nobody reads the note")

    assert (refused.status, unchanged) == (2, before)
    assert "the change is breaking" in refused.err
    assert accepted.status == 0
    assert "nobody reads the note" in file.read_text(encoding="utf-8")
    assert project.run("contracts", "check").status == 0


def test_a_report_for_programs_is_json(project: Project) -> None:
    project.run("contracts", "accept")
    project.change("shop_contracts/__init__.py", 'note: str = ""', "note: int")

    answer = project.run("contracts", "check", "--json")

    assert answer.status == 1
    assert answer.facts["ok"] is False
    breaking = [finding for finding in answer.facts["findings"] if finding["severity"] == "breaking"]
    assert {finding["path"] for finding in breaking} == {"note"}
    assert breaking[0]["read_by"] == ["stock.reserve-stock"]


def test_a_level_leaves_out_who_does_not_count(project: Project) -> None:
    project.run("contracts", "accept")
    project.change(
        "shop_contracts/__init__.py", 'note: str = ""', 'note: str = ""\n    kind: str = Field(max_length=5)'
    )
    project.change("shop_contracts/__init__.py", "from contracts", "from pydantic import Field\n\nfrom contracts")

    assert project.run("contracts", "check").status == 1
    assert "breaking" not in project.run("contracts", "check", "--level", "forward").out.replace("0 breaking", "")


def test_a_renamed_class_does_not_move_its_name_unnoticed(project: Project) -> None:
    project.run("contracts", "accept")
    for file in ("shop_contracts/__init__.py", "stock/handlers.py"):
        place = project.folder / file
        place.write_text(place.read_text(encoding="utf-8").replace("OrderPlacedV1", "OrderSubmittedV1"))

    answer = project.run("contracts", "check")

    assert answer.status == 1
    assert "breaking EVENT_RENAMED: ordering.order-placed v1" in answer.out
    assert 'name="order-placed"' in answer.out


def test_a_difference_is_shown_field_by_field(project: Project) -> None:
    project.run("contracts", "accept")
    same = project.run("contracts", "diff")
    project.change("shop_contracts/__init__.py", 'note: str = ""', 'note: str = ""\n    coupon: str | None = None')

    changed = project.run("contracts", "diff")

    assert (same.status, same.out) == (0, "no difference\n")
    assert changed.status == 1
    assert changed.out == ("changed: ordering.order-placed v1\n  + coupon: string or null, optional = null\n")
    assert project.run("contracts", "diff", "--json").facts[0]["changes"][0]["path"] == "coupon"


def test_contracts_are_checked_without_an_application(project: Project) -> None:
    project.configure('contracts = ["shop_contracts"]')
    project.run("contracts", "accept")
    project.change("shop_contracts/__init__.py", 'note: str = ""', "note: int")

    answer = project.run("contracts", "check")

    assert answer.status == 1
    assert "TYPE_CHANGED" in answer.out
    assert "read by" not in answer.out


def test_pages_are_written_in_each_form(project: Project) -> None:
    files = {
        form: project.run("contracts", "docs", "--format", form, "--out", form, "--json").facts["changed"]
        for form in ("markdown", "html", "eventcatalog")
    }

    assert any(path.endswith("order-placed.v1.md") for path in files["markdown"])
    assert any(path.endswith("order-placed.v1.html") for path in files["html"])
    assert any(path.endswith("index.mdx") for path in files["eventcatalog"])
    for form, paths in files.items():
        assert all((project.folder / form / path).is_file() for path in paths)


def test_pages_of_an_event_that_is_gone_are_removed(project: Project) -> None:
    project.run("contracts", "docs", "--out", "docs")
    for file in ("shop_contracts/__init__.py", "stock/handlers.py"):
        place = project.folder / file
        place.write_text(place.read_text(encoding="utf-8").replace("OrderPlacedV1", "OrderSubmittedV1"))

    facts = project.run("contracts", "docs", "--out", "docs", "--json").facts

    assert [path for path in facts["removed"] if "order-placed" in path]
    assert [path for path in facts["changed"] if "order-submitted" in path]


def test_schemas_are_exported(project: Project) -> None:
    (path,) = project.run("contracts", "export", "--out", "out", "--json").facts["changed"]

    schema = json.loads((project.folder / "out" / path).read_text(encoding="utf-8"))

    assert schema["$id"] == "urn:ordering:order-placed:v1"
    assert set(schema["properties"]) >= {"order_id", "note", "event_id"}
