from pathlib import Path

import pytest

from mediator.errors import OperationRefusedError
from mediator.operations.compatibility import Baseline, Level, accept, check
from tests.operations.compatibility.ordering import order_placed

TYPE, VERSION = "ordering.order-placed", "v1"


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return Baseline(tmp_path / "contracts" / "baseline")


def bytes_of(baseline: Baseline) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in baseline.folder.iterdir()}


def test_first_acceptance_writes_a_file_for_each_version(baseline: Baseline) -> None:
    done = accept([order_placed(), order_placed("OrderPlacedV2", version="v2")], baseline)

    assert [one.kind for one in done] == ["added", "added"]
    assert sorted(bytes_of(baseline)) == ["ordering.order-placed.v1.json", "ordering.order-placed.v2.json"]


def test_accepting_again_changes_nothing(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    before = bytes_of(baseline)

    assert accept([order_placed()], baseline) == ()
    assert bytes_of(baseline) == before


def test_bytes_do_not_depend_on_the_order_of_fields(baseline: Baseline, tmp_path: Path) -> None:
    other = Baseline(tmp_path / "other")
    accept([order_placed(fields={"a": (int, 0), "b": (int, 0)})], baseline)
    accept([order_placed(fields={"b": (int, 0), "a": (int, 0)})], other)

    assert bytes_of(baseline) == bytes_of(other)
    assert all(text.endswith(b"}\n") for text in bytes_of(other).values())


def test_change_is_another_state(baseline: Baseline) -> None:
    accept([order_placed()], baseline)

    [done] = accept([order_placed(fields={"note": (str | None, None)})], baseline)

    assert done.kind == "changed"
    assert [(change.path, change.kind) for change in done.changes] == [("note", "added")]
    assert len(baseline.entries()[TYPE, VERSION].states) == 2


def test_breaking_change_without_a_reason_is_refused_and_writes_nothing(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    before = bytes_of(baseline)

    with pytest.raises(OperationRefusedError, match="REQUIRED_FIELD_MISSING at note") as refused:
        accept([order_placed(fields={"note": (str, ...)}), order_placed("OrderPlacedV2", version="v2")], baseline)

    assert "give a reason" in str(refused.value)
    assert bytes_of(baseline) == before


@pytest.mark.parametrize("reason", ["", "  "])
def test_blank_reason_is_none(baseline: Baseline, reason: str) -> None:
    accept([order_placed()], baseline)

    with pytest.raises(OperationRefusedError):
        accept([], baseline, reason=reason)


def test_reason_is_kept_with_what_it_answers(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([order_placed(fields={"note": (str, ...)})], baseline, reason="no rows before May")

    newest = baseline.entries()[TYPE, VERSION].newest

    assert newest.reason == "no rows before May"
    assert [(one.rule.value, one.path, one.direction) for one in newest.breaks] == [
        ("REQUIRED_FIELD_MISSING", "note", "backward")
    ]


def test_reason_is_not_kept_with_what_breaks_nothing(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([order_placed(fields={"note": (str | None, None)})], baseline, reason="just in case")

    assert baseline.entries()[TYPE, VERSION].newest.reason is None


def test_words_replace_the_newest_state(baseline: Baseline) -> None:
    accept([order_placed()], baseline)

    [done] = accept([order_placed(doc="Told again.")], baseline)

    entry = baseline.entries()[TYPE, VERSION]
    assert done.kind == "reworded"
    assert len(entry.states) == 1
    assert entry.newest.reads["description"] == "Told again."


def test_words_keep_the_reason_of_their_state(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([order_placed(fields={"note": (str, ...)})], baseline, reason="because")
    accept([order_placed(fields={"note": (str, ...)}, doc="Told again.")], baseline)

    assert baseline.entries()[TYPE, VERSION].newest.reason == "because"


def test_removed_event_that_comes_back_has_to_read_its_old_rows(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([], baseline, reason="out of use")

    report = check([order_placed(fields={"note": (str, ...)})], baseline)

    assert [finding.rule.value for finding in report.findings] == ["REQUIRED_FIELD_MISSING"]


def test_removed_event_that_comes_back_is_restored(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([], baseline, reason="out of use")

    assert not check([order_placed()], baseline).ok
    assert [one.kind for one in accept([order_placed()], baseline)] == ["restored"]
    assert check([order_placed()], baseline).ok


def test_break_that_a_higher_level_finds_can_be_accepted(baseline: Baseline) -> None:
    """It is internal, and only backward was looked at; the class is the accepted one, and old readers miss a field."""
    now = order_placed(internal=True, without=("total",))
    accept([order_placed(internal=True)], baseline)
    accept([now], baseline)
    assert not check([now], baseline, level=Level.FULL).ok

    accept([now], baseline, level=Level.FULL, reason="no reader is that old")

    assert check([now], baseline, level=Level.FULL).ok


def test_moved_topic_is_locked_anew(baseline: Baseline) -> None:
    accept([order_placed()], baseline)
    accept([order_placed(topic="sales")], baseline, reason="moved")

    assert check([order_placed(topic="sales")], baseline).ok
    assert [finding.rule.value for finding in check([order_placed()], baseline).findings] == ["TOPIC_CHANGED"]
