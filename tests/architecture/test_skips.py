"""In CI a skipped test is a failed test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SKIPPED = {
    "by a mark": "import pytest\n\n@pytest.mark.skip(reason='no server')\ndef test_it():\n    pass\n",
    "while running": "import pytest\n\ndef test_it():\n    pytest.skip('no server')\n",
    "by a fixture": "import pytest\n@pytest.fixture\ndef it():\n    pytest.skip('no server')\ndef test_it(it): ...\n",
    "as a whole file": "import pytest\n\npytest.skip('no server', allow_module_level=True)\n",
}
EXPECTED_TO_FAIL = "import pytest\n\n@pytest.mark.xfail(reason='known')\ndef test_it():\n    assert False\n"


@pytest.mark.parametrize("source", SKIPPED.values(), ids=SKIPPED.keys())
def test_skip_fails_in_ci(tmp_path: Path, source: str) -> None:
    done = run_tests(tmp_path, source, ci="true")

    assert done.returncode != 0
    assert "no server" in done.stdout
    assert "CI skips nothing" in done.stdout


@pytest.mark.parametrize("source", SKIPPED.values(), ids=SKIPPED.keys())
def test_skip_is_fine_elsewhere(tmp_path: Path, source: str) -> None:
    done = run_tests(tmp_path, source, ci="")

    assert done.returncode in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert "1 skipped" in done.stdout


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    done = run_tests(tmp_path, EXPECTED_TO_FAIL, ci="true")

    assert done.returncode == 0, done.stdout
    assert "1 xfailed" in done.stdout


def test_skip_on_the_list_is_allowed(tmp_path: Path) -> None:
    listed = "import conftest\n\nconftest.ALLOWED_SKIPS['test_sample.py'] = 'needs a screen'\n"

    done = run_tests(tmp_path, listed + SKIPPED["by a mark"], ci="true")

    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def run_tests(folder: Path, source: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-rs", str(folder)]
    environment = {**os.environ, "CI": ci}
    return subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=100
    )
