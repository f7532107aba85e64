"""Every fenced Python block of the README and of `docs/` is run; `pages.py` says how."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.documentation.pages import databases_of, python_blocks, run_page
from tests.support.databases import Servers

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


RUNS = [(name, kinds) for name, blocks in PAGES.items() if blocks for kinds in databases_of(blocks)]


@pytest.mark.parametrize(("page", "kinds"), RUNS, ids=["-".join((name, *kinds.values())) for name, kinds in RUNS])
def test_page_runs(page: str, kinds: Mapping[str, str], servers: Servers, tmp_path: Path) -> None:
    with ExitStack() as stack:
        variables = {}
        for variable, kind in kinds.items():
            variables[variable] = stack.enter_context(servers.new_database(kind, tmp_path))

        outcome = run_page(page, PAGES[page], tmp_path, variables)

    assert outcome.returncode == 0, outcome.output
