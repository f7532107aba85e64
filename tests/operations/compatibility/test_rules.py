"""The page of the documentation lists every rule, with its severity, and what is said of the table's size is so."""

import re
from pathlib import Path

from mediator.operations.compatibility import Level, Rule
from tests.operations.compatibility.cases import CASES

PAGE = (Path(__file__).resolve().parents[3] / "docs/how-to/compatibility.md").read_text(encoding="utf-8")


def test_every_rule_is_explained_with_its_severity() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (breaking|unaccepted|info|advice) \| ", PAGE, re.MULTILINE)

    assert rows == [(rule.value, rule.severity.value) for rule in Rule]


def test_every_level_is_explained() -> None:
    assert {level.name for level in Level} <= set(re.findall(r"^\| `([A-Z]+)` \|", PAGE, re.MULTILINE))


def test_size_of_the_table_is_the_one_that_is_told() -> None:
    assert f"the same table of {len(CASES)} pairs, {len(CASES) * 2} directions" in PAGE


def test_findings_that_pydantic_would_read_are_counted() -> None:
    assert (
        f"| this check | {len(CASES) * 2 - sum(len(case.unseen) for case in CASES)} of {len(CASES) * 2} | 0 |" in PAGE
    )
