import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediator.errors import BaselineError, ConfigurationError
from mediator.operations.compatibility import Baseline, accept, check
from tests.operations.compatibility.ordering import order_placed

NAME = "ordering.order-placed.v1.json"


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    found = Baseline(tmp_path / "baseline")
    accept([order_placed()], found)
    return found


def error(baseline: Baseline) -> str:
    with pytest.raises(BaselineError) as raised:
        check([order_placed()], baseline)
    assert isinstance(raised.value, ConfigurationError)
    return str(raised.value)


def changed(baseline: Baseline, change: Callable[[dict[str, Any]], object]) -> None:
    path = baseline.folder / NAME
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_folder_that_is_missing_is_an_empty_baseline(tmp_path: Path) -> None:
    assert Baseline(tmp_path / "nowhere").entries() == {}


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "baseline").write_text("{}")

    assert "it is no folder" in error(Baseline(tmp_path / "baseline"))


def test_merge_conflict_is_named_with_its_line(baseline: Baseline) -> None:
    path = baseline.folder / NAME
    path.write_text("{\n<<<<<<< ours\n}\n=======\n{}\n>>>>>>> theirs\n")

    assert "line 2 is the mark of a merge conflict. keep the states of both sides" in error(baseline)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is no JSON"),
        (b"[]", "it is no baseline"),
        (b"\xff", "it cannot be read"),
        (b"{" * 100_000, "it is no JSON"),
        (b'{"format": NaN}', "NaN is no JSON number"),
        (b'{"format": 1, "format": 1}', "stands twice"),
        (b'{"format": 2}', "it has the format 2, this toolkit knows 1. upgrade the toolkit"),
        (b'{"format": "1"}', "it is no baseline: format"),
        (b" " * (16 * 1024 * 1024 + 1), "more than"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:20],
)
def test_damaged_file_is_named(baseline: Baseline, content: bytes, what: str) -> None:
    (baseline.folder / NAME).write_bytes(content)

    message = error(baseline)

    assert what in message
    assert str(baseline.folder / NAME) in message


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("states"),
        lambda data: data.update(states=[]),
        lambda data: data.update(unheard=1),
        lambda data: data["states"][0].update(reads=[]),
        lambda data: data["states"][0]["reads"].update(properties=5),
        lambda data: data["states"][0]["reads"]["properties"].update(total=7),
        lambda data: data["states"][0]["reads"]["properties"].update(total={"$ref": "#/$defs/Gone"}),
        lambda data: data["states"][0]["reads"]["properties"].update(total={"anyOf": 3}),
        lambda data: data["states"][0]["reads"]["properties"].update(total={"type": ["string", 3]}),
        lambda data: data["states"][0]["reads"]["properties"].update(total={"type": "string", "maxLength": "3"}),
        lambda data: data["states"][0]["reads"]["properties"].update(total={"oneOf": [{}], "x-discriminator": ["k"]}),
        lambda data: data["states"][0].update(breaks=[{"rule": "UNHEARD", "path": "", "direction": None}]),
    ],
)
def test_damaged_content_is_named(baseline: Baseline, change: Callable[[dict[str, Any]], object]) -> None:
    changed(baseline, change)

    assert "it is no baseline: " in error(baseline)


def test_file_under_another_name_is_refused(baseline: Baseline) -> None:
    (baseline.folder / NAME).rename(baseline.folder / "copy.json")

    assert f"it holds ordering.order-placed v1. call it {NAME}" in error(baseline)


def test_other_files_are_left_alone(baseline: Baseline) -> None:
    (baseline.folder / "README.md").write_text("What this is.")

    assert check([order_placed()], baseline).ok


def test_file_is_replaced_as_a_whole(baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (baseline.folder / NAME).read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BaselineError, match="it cannot be written: no space left"):
        accept([order_placed(fields={"note": (str | None, None)})], baseline)

    assert [path.name for path in baseline.folder.iterdir()] == [NAME]
    assert (baseline.folder / NAME).read_bytes() == before
