"""What the README and `docs/` refer to exists: pages, headings, files of the package, errors and lines of the log."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mediator import errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def links(page: Path) -> Iterator[str]:
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            if child.type == "link_open":
                yield str(child.attrGet("href"))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    headings = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    relative = [link for link in links(page) if not re.match(r"[a-z]+:", link)]
    targets = [(link, page.parent / link.partition("#")[0] if link[0] != "#" else page) for link in relative]

    assert [link for link, target in targets if not target.exists()] == []
    assert [link for link, target in targets if "#" in link and link.partition("#")[2] not in anchors(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_files_of_the_package_exist(page: Path) -> None:
    named = set(re.findall(r"\bmediator/[\w/]+\.py\b", page.read_text(encoding="utf-8")))

    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_links_to_files_are_named_as_the_files() -> None:
    way = (ROOT / "docs/events-way.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`([\w/]+\.py)`\]\(\.\./mediator/([\w/]+\.py)\)", way)

    assert named
    assert [pair for pair in named if pair[0] != pair[1]] == []


def test_every_error_is_explained() -> None:
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")

    assert [name for name in errors.__all__ if f"`{name}`" not in page] == []


def test_every_line_of_the_log_is_listed() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    call = re.compile(r"""(?:\blog\.\w+|_back_off)\(\s*"(\w+\.\w+)\"""")
    logged = {name for path in (ROOT / "mediator").rglob("*.py") for name in call.findall(path.read_text("utf-8"))}

    assert logged
    assert sorted(name for name in logged if f"`{name}`" not in page) == []
