"""Whether contracts that change can still be read, by the code of yesterday and of what yesterday's code wrote.

    baseline = Baseline("shop_contracts/baseline")
    accept(EVENTS, baseline)             # once, and after each change that is wanted
    report = check(EVENTS, baseline)     # in CI: report.ok

    can_read(schemas_of(New).reads, schemas_of(Old).writes)      # the question that all of it rests on

The files stand in the order of the work: `schemas` says what a class reads and writes, `reading` compares two of them,
`baseline` keeps what was accepted, `checking` compares all, and `accepting` writes it down.
"""

from mediator.operations.compatibility.accepting import Acceptance, accept
from mediator.operations.compatibility.baseline import AcceptedBreak, AcceptedState, Baseline, BaselineEntry
from mediator.operations.compatibility.checking import check, level_of
from mediator.operations.compatibility.differences import FieldChange, FieldFacts, diff
from mediator.operations.compatibility.findings import Finding, Report
from mediator.operations.compatibility.naming_advice import advice, is_past_tense
from mediator.operations.compatibility.pending import EventDifference, differences
from mediator.operations.compatibility.reading.comparing import can_read
from mediator.operations.compatibility.reading.gaps import Gap
from mediator.operations.compatibility.rules import Direction, Level, Rule, Severity
from mediator.operations.compatibility.schemas.exact import Schemas, schemas_of
from mediator.operations.compatibility.states import EventState, KeyField, state_of

__all__ = [
    "Acceptance",
    "AcceptedBreak",
    "AcceptedState",
    "Baseline",
    "BaselineEntry",
    "Direction",
    "EventDifference",
    "EventState",
    "FieldChange",
    "FieldFacts",
    "Finding",
    "Gap",
    "KeyField",
    "Level",
    "Report",
    "Rule",
    "Schemas",
    "Severity",
    "accept",
    "advice",
    "can_read",
    "check",
    "diff",
    "differences",
    "is_past_tense",
    "level_of",
    "schemas_of",
    "state_of",
]
