"""Every fenced Python block of the README and of `docs/` is run; `pages.py` says how."""

from pathlib import Path

import pytest

from tests.documentation.pages import python_blocks, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    page.relative_to(ROOT).as_posix(): python_blocks(page.read_text(encoding="utf-8"))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.exists()
}


def test_readme_shows_one_short_program() -> None:
    [block] = PAGES["README.md"]

    assert block.file is None
    assert sum(bool(line.strip()) for line in block.source.splitlines()) <= 30
    assert block.source.splitlines()[-1].startswith("asyncio.run(")


@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks])
def test_page_runs(page: str, tmp_path: Path) -> None:
    outcome = run_page(page, PAGES[page], tmp_path)

    assert outcome.returncode == 0, outcome.output
