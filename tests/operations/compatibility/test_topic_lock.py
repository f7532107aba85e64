from pathlib import Path

import pytest

from mediator.operations.compatibility import Baseline, Report, Rule, accept, check
from tests.operations.compatibility.ordering import order_placed


class Order: ...


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    found = Baseline(tmp_path)
    accept([order_placed(topic=Order)], found)
    return found


def breaking(report: Report) -> list[Rule]:
    return [finding.rule for finding in report.findings if not report.ok and finding.severity != "advice"]


def test_topic_is_locked(baseline: Baseline) -> None:
    report = check([order_placed(topic=Order, pluralize=False)], baseline)

    [finding] = report.findings
    assert finding.rule is Rule.TOPIC_CHANGED
    assert finding.reader == "{environment}.ordering.public.order.v1"
    assert finding.writer == "{environment}.ordering.public.orders.v1"
    assert '@event_topic("orders", domain="ordering", …)' in finding.fix


def test_scope_is_locked(baseline: Baseline) -> None:
    assert breaking(check([order_placed(internal=True)], baseline)) == [Rule.TOPIC_CHANGED]


def test_renamed_class_is_told_from_a_new_event(baseline: Baseline) -> None:
    report = check([order_placed("OrderSubmittedV1", topic=Order)], baseline)

    [finding] = report.findings
    assert finding.rule is Rule.EVENT_RENAMED
    assert finding.event == "ordering.order-placed"
    assert '@event_topic(…, domain="ordering", name="order-placed")' in finding.fix


def test_renamed_class_that_keeps_its_name_is_fine(baseline: Baseline) -> None:
    assert check([order_placed("OrderSubmittedV1", topic=Order, name="order-placed")], baseline).ok


def test_renamed_domain_is_told_from_a_new_event(baseline: Baseline) -> None:
    assert breaking(check([order_placed(domain="sales")], baseline)) == [Rule.EVENT_RENAMED]


def test_event_that_goes_while_another_comes_is_no_renaming(baseline: Baseline) -> None:
    other = order_placed("StockCountedV1", topic="stock", without=("total", "order_id"), fields={"sku": (str, ...)})

    assert breaking(check([other], baseline)) == [Rule.EVENT_REMOVED, Rule.NOT_ACCEPTED]


def test_which_of_two_is_the_renamed_one_is_not_guessed(baseline: Baseline) -> None:
    report = check([order_placed("OrderSubmittedV1"), order_placed("OrderCancelledV1")], baseline)

    assert breaking(report) == [Rule.EVENT_REMOVED, Rule.NOT_ACCEPTED, Rule.NOT_ACCEPTED]


def test_new_version_beside_the_old_one_is_new(baseline: Baseline) -> None:
    report = check([order_placed(topic=Order), order_placed("OrderPlacedV2", topic=Order, version="v2")], baseline)

    assert breaking(report) == [Rule.NOT_ACCEPTED]


def test_accepted_renaming_keeps_the_old_file_with_its_reason(baseline: Baseline) -> None:
    renamed = order_placed("OrderSubmittedV1", topic=Order)

    done = accept([renamed], baseline, reason="nobody listens yet")

    assert [(one.event, one.kind) for one in done] == [
        ("ordering.order-placed", "removed"),
        ("ordering.order-submitted", "added"),
    ]
    assert baseline.entries()["ordering.order-placed", "v1"].removed == "nobody listens yet"
    assert check([renamed], baseline).ok
