from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest

from contracts import IntegrationEvent, PartitionKey, Sensitive
from mediator.errors import BaselineError
from mediator.operations.compatibility import Baseline, Direction, Level, Report, Rule, Severity, accept, check
from tests.consuming.notes import NotedV1, RemarkedV1, listener, writes
from tests.hosting.wirings import app_of
from tests.operations.compatibility.ordering import BASE, order_placed
from tests.support import module_of

ACCOUNT: Any = (Annotated[str, PartitionKey()], "a")

NOTE: dict[str, Any] = {"note": (str, ...)}
OPTIONAL_NOTE: dict[str, Any] = {"note": (str | None, None)}


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return Baseline(tmp_path / "baseline")


def rules(report: Report, *severities: Severity) -> list[tuple[str, str, str]]:
    wanted = severities or (Severity.BREAKING, Severity.UNACCEPTED)
    return [
        (finding.rule.value, finding.path, finding.direction.value if finding.direction else "")
        for finding in report.findings
        if finding.severity in wanted
    ]


def after(baseline: Baseline, *states: type[IntegrationEvent]) -> Baseline:
    """The baseline once these were accepted, one after the other."""
    for state in states:
        accept([state], baseline, reason="for the test")
    return baseline


def test_what_is_accepted_is_fine(baseline: Baseline) -> None:
    report = check([order_placed()], after(baseline, order_placed()))

    assert report.ok
    assert report.findings == ()


def test_event_without_a_baseline_is_not_accepted(baseline: Baseline) -> None:
    report = check([order_placed()], baseline)

    assert not report.ok
    assert rules(report) == [("NOT_ACCEPTED", "", "")]


def test_change_that_breaks_nothing_wants_to_be_accepted(baseline: Baseline) -> None:
    report = check([order_placed(fields=OPTIONAL_NOTE)], after(baseline, order_placed()))

    assert rules(report) == [("NOT_ACCEPTED", "", "")]


def test_public_event_is_checked_in_both_directions(baseline: Baseline) -> None:
    report = check([order_placed(without=("total",), fields=NOTE)], after(baseline, order_placed()))

    assert rules(report) == [
        ("REQUIRED_FIELD_MISSING", "note", "backward"),
        ("REQUIRED_FIELD_MISSING", "total", "forward"),
    ]


def test_internal_event_is_checked_backward(baseline: Baseline) -> None:
    after(baseline, order_placed(internal=True))

    report = check([order_placed(without=("total",), fields=NOTE, internal=True)], baseline)

    assert rules(report) == [("REQUIRED_FIELD_MISSING", "note", "backward")]


@pytest.mark.parametrize(
    ("level", "directions"),
    [
        (Level.NONE, set()),
        (Level.BACKWARD, {"backward"}),
        (Level.FORWARD, {"forward"}),
        (Level.FULL, {"backward", "forward"}),
    ],
)
def test_level_says_which_directions_count(baseline: Baseline, level: Level, directions: set[str]) -> None:
    after(baseline, order_placed())

    report = check([order_placed(without=("total",), fields=NOTE)], baseline, level=level)

    assert {direction for _, _, direction in rules(report, Severity.BREAKING)} == directions


def test_every_accepted_state_is_compared(baseline: Baseline) -> None:
    """The optional field of the first state is gone in the second, and comes back with another type."""
    after(baseline, order_placed(fields=OPTIONAL_NOTE), order_placed())

    report = check([order_placed(fields={"note": (int | None, 0)})], baseline)

    assert rules(report) == [("TYPE_CHANGED", "note", "backward"), ("TYPE_CHANGED", "note", "forward")]
    assert {finding.state for finding in report.of(Severity.BREAKING)} == {1}


def test_accepted_break_is_not_reported_again(baseline: Baseline) -> None:
    after(baseline, order_placed(), order_placed(without=("total",)))

    assert check([order_placed(without=("total",))], baseline).ok


def test_accepted_break_forgets_nothing_else(baseline: Baseline) -> None:
    """That old readers miss the total was accepted; that the new class cannot read their id was not."""
    after(baseline, order_placed(fields=OPTIONAL_NOTE), order_placed(without=("total",)))

    report = check([order_placed(without=("total",), fields={"note": (int | None, None)})], baseline)

    assert rules(report) == [("TYPE_CHANGED", "note", "backward"), ("TYPE_CHANGED", "note", "forward")]


def test_second_break_of_one_place_is_reported(baseline: Baseline) -> None:
    after(baseline, order_placed(), order_placed(fields={"total": (bool, ...)}))

    report = check([order_placed(fields={"total": (tuple[int, ...], ...)})], baseline)

    assert {(rule, path) for rule, path, _ in rules(report)} == {("TYPE_CHANGED", "total")}
    assert {finding.state for finding in report.of(Severity.BREAKING)} == {2}


def test_finding_tells_both_sides_and_a_fix(baseline: Baseline) -> None:
    [finding] = check([order_placed(fields=NOTE)], after(baseline, order_placed())).of(Severity.BREAKING)

    assert str(finding).splitlines() == [
        "breaking REQUIRED_FIELD_MISSING: ordering.order-placed v1 at note (backward)",
        "  the class of today: required",
        "  the accepted state 1: no such field",
        "  fix: make it optional with a default; or add OrderPlacedV2 and an upcaster",
    ]


def test_finding_is_json(baseline: Baseline) -> None:
    report = check([order_placed(fields=NOTE)], after(baseline, order_placed())).to_dict()

    assert report["ok"] is False
    assert report["counts"] == {"breaking": 1, "unaccepted": 0, "info": 0, "advice": 0}
    assert report["findings"][0]["rule"] == "REQUIRED_FIELD_MISSING"
    assert report["findings"][0]["direction"] == Direction.BACKWARD


def test_next_version_is_one_that_is_free(baseline: Baseline) -> None:
    second = order_placed("OrderPlacedV2", version="v2")
    accept([order_placed(), second], baseline)

    [finding] = check([order_placed(fields=NOTE), second], baseline).of(Severity.BREAKING)

    assert "add OrderPlacedV3" in finding.fix


def test_removed_event_is_breaking(baseline: Baseline) -> None:
    assert rules(check([], after(baseline, order_placed()))) == [("EVENT_REMOVED", "", "")]


def test_removed_version_is_told_from_a_removed_event(baseline: Baseline) -> None:
    second = order_placed("OrderPlacedV2", version="v2")
    accept([order_placed(), second], baseline)

    assert rules(check([second], baseline)) == [("VERSION_REMOVED", "", "")]


def test_new_default_and_new_words_are_told(baseline: Baseline) -> None:
    after(baseline, order_placed(fields={"count": (int, 1)}))

    report = check([order_placed(fields={"count": (int, 2)}, doc="Another sentence.")], baseline)

    assert report.ok
    assert rules(report, Severity.INFO) == [("DESCRIPTION_CHANGED", "", ""), ("DEFAULT_CHANGED", "count", "")]


def test_mark_of_a_sensitive_value_must_not_go(baseline: Baseline) -> None:
    after(baseline, order_placed(fields={"email": (Annotated[str, Sensitive()], ...)}))

    assert rules(check([order_placed(fields={"email": (str, ...)})], baseline)) == [("SENSITIVE_REMOVED", "email", "")]


def test_new_mark_of_a_sensitive_value_wants_to_be_accepted(baseline: Baseline) -> None:
    after(baseline, order_placed(fields={"email": (str, ...)}))

    report = check([order_placed(fields={"email": (Annotated[str, Sensitive()], ...)})], baseline)

    assert rules(report) == [("NOT_ACCEPTED", "", "")]


@pytest.mark.parametrize(
    "fields",
    [
        {"order_id": (UUID, ...)},
        {"order_id": (Annotated[str, PartitionKey()], ...)},
        {"order_id": (Annotated[UUID, PartitionKey(1)], ...), "tenant": (Annotated[str, PartitionKey(0)], "")},
    ],
    ids=["none", "another type", "one more"],
)
def test_partition_key_is_locked(baseline: Baseline, fields: dict[str, Any]) -> None:
    report = check([order_placed(fields=fields)], after(baseline, order_placed()))

    assert "PARTITION_KEY_CHANGED" in {rule for rule, _, _ in rules(report)}


def test_two_classes_for_one_event_are_refused(baseline: Baseline) -> None:
    with pytest.raises(BaselineError, match="are both this event in this version"):
        check([order_placed(), order_placed("OrderPlaced")], baseline)


def test_class_without_a_topic_is_no_event(baseline: Baseline) -> None:
    class Base(IntegrationEvent):
        amount: Decimal

    assert check([Base], baseline).events == 0


def test_every_rule_about_reading_has_a_fix_for_both_directions() -> None:
    from mediator.operations.compatibility.fixes import fix_of

    first, last = list(Rule).index(Rule.REQUIRED_FIELD_MISSING), list(Rule).index(Rule.CLOSED_READER)
    fixes = [fix_of(rule, way, "XV2") for rule in list(Rule)[first : last + 1] for way in Direction]

    assert len(set(fixes)) == len(fixes)


def test_finding_tells_who_reads_the_event(baseline: Baseline) -> None:
    mail = module_of("mail", listener("Send", writes, NotedV1 | RemarkedV1))
    registry = app_of(mail).registry
    accept([NotedV1, RemarkedV1], baseline)
    before = order_placed(
        "NotedV1", topic="notes", domain="bank", without=tuple(BASE), fields={"account": ACCOUNT, "by": (str, ...)}
    )
    accept([before, RemarkedV1], baseline, reason="for the test")

    [finding] = check(registry, baseline).of(Severity.BREAKING)

    assert (finding.rule, finding.path, finding.direction) == (Rule.REQUIRED_FIELD_MISSING, "by", Direction.FORWARD)
    assert finding.read_by == ("mail.send",)
    assert "  read by: mail.send" in str(finding).splitlines()


def test_without_a_registry_nobody_is_known_to_read(baseline: Baseline) -> None:
    [finding] = check([order_placed(fields=NOTE)], after(baseline, order_placed())).of(Severity.BREAKING)

    assert finding.read_by == ()
