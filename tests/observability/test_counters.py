from mediator.observability import Counters


def test_counts_add_up_for_each_name_and_subject() -> None:
    counters = Counters()
    counters.add("relayed", "ordering")
    counters.add("relayed", "ordering", 2)
    counters.add("relayed", "billing")
    counters.add("refused", "ordering", 5)

    assert counters.total("relayed", "ordering") == 3
    assert counters.total("relayed") == 4
    assert counters.snapshot() == {("relayed", "ordering"): 3, ("relayed", "billing"): 1, ("refused", "ordering"): 5}


def test_what_never_happened_counts_nothing_and_leaves_no_trace() -> None:
    counters = Counters()

    assert counters.total("relayed") == 0
    assert counters.total("relayed", "ordering") == 0
    assert counters.snapshot() == {}


def test_a_snapshot_stays_as_it_was() -> None:
    counters = Counters()
    counters.add("relayed", "ordering")
    before = counters.snapshot()
    counters.add("relayed", "ordering")

    assert before == {("relayed", "ordering"): 1}
