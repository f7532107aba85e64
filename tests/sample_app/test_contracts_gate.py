"""The sample's contracts have a baseline and a gate, and the gate fails when a change would break a reader."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sample, to be changed."""
    shutil.copytree(ROOT / "sample_app", tmp_path / "sample_app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def checked(folder: Path) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mediator.cli", "contracts", "check", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_the_contracts_of_the_sample_are_those_that_were_accepted() -> None:
    status, report = checked(ROOT)

    assert (status, report["findings"]) == (0, [])


@pytest.mark.parametrize(
    ("old", "new", "rule", "path"),
    [
        ("    customer_email: Annotated[str, Sensitive()]\n\n\n", "\n\n", "REQUIRED_FIELD_MISSING", "customer_email"),
        ("    price: Decimal\n", "    price: bool\n", "TYPE_CHANGED", "price"),
        ('@event_topic("offers"', '@event_topic("prices"', "TOPIC_CHANGED", ""),
        ("    sku: Annotated[str, PartitionKey()]\n", "    sku: str\n", "PARTITION_KEY_CHANGED", ""),
        ("customer_name: Annotated[str, Sensitive()]", "customer_name: str", "SENSITIVE_REMOVED", "customer_name"),
        ("class PriceChangedV1", "class PriceRaisedV1", "EVENT_RENAMED", ""),
    ],
    ids=["removed", "retyped", "moved", "unordered", "shown", "renamed"],
)
def test_a_breaking_change_does_not_pass(checkout: Path, old: str, new: str, rule: str, path: str) -> None:
    contract = checkout / "sample_app" / "contracts" / "ordering.py"
    text = contract.read_text(encoding="utf-8")
    assert old in text
    contract.write_text(text.replace(old, new, 1), encoding="utf-8")
    for file in checkout.rglob("*.py") if rule == "EVENT_RENAMED" else ():
        file.write_text(file.read_text(encoding="utf-8").replace("PriceChangedV1", "PriceRaisedV1"), encoding="utf-8")

    status, report = checked(checkout)

    breaking = {(one["rule"], one["path"]) for one in report["findings"] if one["severity"] == "breaking"}
    assert status == 1
    assert (rule, path) in breaking


def test_the_gate_tells_who_reads_what_breaks(checkout: Path) -> None:
    contract = checkout / "sample_app" / "contracts" / "ordering.py"
    text = contract.read_text(encoding="utf-8")
    contract.write_text(text.replace("    customer_email: Annotated[str, Sensitive()]\n", "", 1), encoding="utf-8")

    _, report = checked(checkout)

    (finding,) = [one for one in report["findings"] if one["severity"] == "breaking"]
    assert finding["event"] == "ordering.order-paid"
    assert finding["read_by"]
    assert all(reader.startswith("notifications.") for reader in finding["read_by"])
