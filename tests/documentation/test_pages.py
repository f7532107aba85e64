"""The runner of the documentation's blocks runs what it says, and a page that fails says where."""

from pathlib import Path

import pytest

from tests.documentation.pages import Outcome, databases_of, python_blocks, run_page
from tests.support.databases import every_database


def run(folder: Path, text: str) -> Outcome:
    return run_page("docs/page.md", python_blocks(text), folder)


def test_blocks_share_a_namespace(tmp_path: Path) -> None:
    outcome = run(
        tmp_path, "```python\na = 1\n```\ntext\n\n- in a list:\n\n  ```py\n  assert a == 1; print('ran')\n  ```\n"
    )

    assert (outcome.returncode, outcome.output.splitlines()[-1]) == (0, "ran")


def test_failure_names_page_and_line(tmp_path: Path) -> None:
    outcome = run(tmp_path, "# Page\n\n```python\na = 1\n```\n\n```python\nb = 2\nassert a == b\n```\n")

    assert outcome.returncode == 1
    assert 'File "docs/page.md", line 9' in outcome.output
    assert "assert a == b" in outcome.output


def test_syntax_error_names_page_and_line(tmp_path: Path) -> None:
    outcome = run(tmp_path, "# Page\n\n```python\na = \n```\n")

    assert outcome.returncode == 1
    assert 'File "docs/page.md", line 4' in outcome.output


def test_await_stands_at_the_top_level(tmp_path: Path) -> None:
    outcome = run(tmp_path, "```python\nimport asyncio\nawait asyncio.sleep(0)\nprint('awaited')\n```\n")

    assert (outcome.returncode, outcome.output.splitlines()[-1]) == (0, "awaited")


def test_block_with_a_file_name_is_a_module(tmp_path: Path) -> None:
    page = (
        "```python\nfrom shop.orders.domain import price\nassert price() == 3\n```\n"
        "```python\n# shop/orders/domain.py\nfrom shop import VAT\ndef price():\n    return VAT\n```\n"
        "```python\n# shop/__init__.py\nVAT = 3\n```\n"
        "```python\n# shop/orders/domain.py, continued\nraise RuntimeError(price())\n```\n"
    )

    outcome = run(tmp_path, page)

    assert outcome.returncode == 1
    assert 'domain.py", line 17' in outcome.output
    assert "RuntimeError: 3" in outcome.output


def test_file_that_is_a_program_is_run(tmp_path: Path) -> None:
    page = (
        '```python\n# main.py\nimport asyncio\nasync def main():\n    print("ran")\n'
        'if __name__ == "__main__":\n    asyncio.run(main())\n```\n'
    )

    outcome = run(tmp_path, page)

    assert (outcome.returncode, outcome.output.splitlines()[-1]) == (0, "ran")


def test_block_without_await_may_run_a_loop_of_its_own(tmp_path: Path) -> None:
    page = (
        "```python\nimport asyncio\nqueue = asyncio.Queue()\nawait queue.put(1)\n```\n"
        "```python\nasync def main():\n    print(__name__)\nasyncio.run(main())\n```\n"
        "```python\nassert await queue.get() == 1\n```\n"
    )

    outcome = run(tmp_path, page)

    assert (outcome.returncode, outcome.output.splitlines()[-1]) == (0, "__main__")


def test_no_marker_leaves_a_block_out() -> None:
    blocks = python_blocks(
        "```python notest\n1/0\n```\n```{.python .skip}\n1\n```\n```Python\n2\n```\n````py\n3\n````\n"
    )

    assert [block.source for block in blocks] == ["1/0\n", "1\n", "2\n", "3\n"]


def test_other_languages_are_left_alone() -> None:
    assert python_blocks("```text\n1/0\n```\n```pycon\n>>> 1/0\n```\n```\n1/0\n```\n    1/0\n") == []


def test_page_is_run_on_every_database_that_it_asks_for() -> None:
    blocks = python_blocks(
        '```python\nimport os\nurl = os.environ["DATABASE_URL"]\n```\n```python\nos.environ["POSTGRESQL_URL"]\n```\n'
    )

    assert databases_of(blocks) == [{"DATABASE_URL": kind, "POSTGRESQL_URL": "postgresql"} for kind in every_database()]
    assert databases_of(python_blocks("```python\n1\n```\n")) == [{}]


def test_page_finds_its_database_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "somebody's own")
    blocks = python_blocks('```python\nimport os\nprint(os.environ["DATABASE_URL"])\n```\n')

    assert run_page("docs/page.md", blocks, tmp_path, {"DATABASE_URL": "here"}).output.splitlines()[-1] == "here"
    assert "KeyError: 'DATABASE_URL'" in run_page("docs/page.md", blocks, tmp_path).output
