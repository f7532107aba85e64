"""Files appear whole, and what somebody else has written stays."""

from pathlib import Path

import pytest

from mediator.errors import SettingsError
from mediator.operations.documents.writing import RECORD, write_files


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {RECORD}


def test_files_are_written_where_they_belong(tmp_path: Path) -> None:
    written = write_files(tmp_path / "docs", {"index.md": "ä\n", "events/a.md": "a\n"}, kind="markdown")

    assert written.changed == ("events/a.md", "index.md")
    assert (tmp_path / "docs/index.md").read_bytes() == "ä\n".encode()
    assert files_in(tmp_path / "docs") == {"index.md", "events/a.md"}


def test_file_that_is_as_it_should_be_is_left_alone(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.md": "a", "b.md": "b"}, kind="markdown")
    before = (tmp_path / "a.md").stat().st_ino

    written = write_files(tmp_path, {"a.md": "a", "b.md": "new"}, kind="markdown")

    assert (written.changed, written.unchanged) == (("b.md",), ("a.md",))
    assert (tmp_path / "a.md").stat().st_ino == before


def test_page_of_an_event_that_is_gone_is_removed(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.md": "a", "b.md": "b"}, kind="markdown")

    written = write_files(tmp_path, {"a.md": "a"}, kind="markdown")

    assert written.removed == ("b.md",)
    assert files_in(tmp_path) == {"a.md"}


def test_what_somebody_else_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text("mine")
    write_files(tmp_path, {"a.md": "a"}, kind="markdown")

    written = write_files(tmp_path, {}, kind="markdown")

    assert written.removed == ("a.md",)
    assert files_in(tmp_path) == {"own.md"}


def test_page_that_somebody_has_changed_is_kept(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.md": "a"}, kind="markdown")
    (tmp_path / "a.md").write_text("a, with a note")

    first = write_files(tmp_path, {}, kind="markdown")
    second = write_files(tmp_path, {}, kind="markdown")

    assert (first.removed, first.kept) == ((), ("a.md",))
    assert (second.removed, second.kept) == ((), ("a.md",))
    assert files_in(tmp_path) == {"a.md"}


def test_kinds_share_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"index.md": "a"}, kind="markdown")

    write_files(tmp_path, {"index.html": "b"}, kind="html")
    write_files(tmp_path, {}, kind="html")

    assert files_in(tmp_path) == {"index.md"}


@pytest.mark.parametrize("path", ["../outside.md", "/tmp/outside.md", "a/../../outside.md", "", RECORD])
def test_path_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(SettingsError, match="stay within"):
        write_files(tmp_path / "docs", {"a.md": "a", path: "b"}, kind="markdown")

    assert files_in(tmp_path) == set()


def test_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/events").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SettingsError, match="stay within"):
        write_files(tmp_path / "docs", {"events/a.md": "a"}, kind="markdown")

    assert files_in(tmp_path / "elsewhere") == set()


def test_record_that_leads_out_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("mine")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / RECORD).write_text('{"markdown": {"../mine.md": "x"}}')

    with pytest.raises(SettingsError, match="stay within"):
        write_files(tmp_path / "docs", {}, kind="markdown")

    assert (tmp_path / "mine.md").exists()


def test_damaged_record_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[]")

    with pytest.raises(SettingsError, match="damaged: delete it"):
        write_files(tmp_path, {"a.md": "a"}, kind="markdown")


def test_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.md": "old"}, kind="markdown")
    (tmp_path / "b.md").mkdir()

    with pytest.raises(OSError, match=r"b\.md"):
        write_files(tmp_path, {"b.md": "new"}, kind="markdown")

    assert files_in(tmp_path) == {"a.md"}
    assert (tmp_path / "a.md").read_text() == "old"
