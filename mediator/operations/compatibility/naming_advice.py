"""Advice on names and words; it never fails a check.

An event says what happened, so its name ends in a past participle: OrderPlaced, not PlaceOrder or OrderPlacing. Its
class carries its version, so that two versions can stand side by side. What is public has a description and somebody
who answers for it.
"""

import re
from collections.abc import Iterator

from contracts import IntegrationEvent, topic_of
from mediator.operations.compatibility.findings import Finding
from mediator.operations.compatibility.fixes import class_name
from mediator.operations.compatibility.rules import Rule

__all__ = ["advice", "is_past_tense"]

_VERSION = re.compile(r"V([0-9]+)$")
# Participles and past tenses that do not end in -ed.
_IRREGULAR = frozenset(
    """
    arisen awoken beaten become begun bent bet bid bitten blown born borne bought bound bred broadcast broken
    brought built burnt burst cast caught chosen clung come cost crept cut dealt done drawn dreamt driven drunk
    dug eaten fallen fed felt flown forbidden forecast foregone forgiven forgotten fought found frozen given gone
    gotten grown heard held hidden hit hung hurt input kept knelt known laid lain leapt learnt led left lent let
    lit lost made meant met mistaken offset outdone outgrown overdrawn overridden overrun overtaken overwritten
    paid proven put quit read reborn rebuilt redone rerun resent reset resold retaken rewritten ridden risen run
    rung said sat seen sent set sewn shaken shed shot shown shrunk shut slept slid sold sought sown spent spilt
    split spoken spread sprung spun stolen stood struck stuck stung sung sunk swept sworn swum swung taken taught
    thought thrown told torn undergone understood undertaken undone upheld upset withdrawn withheld withstood
    woken won worn wound written
    arose ate became began bit blew broke came chose did drank drew drove fell flew forgot froze gave grew hid knew lay
    ran rang rose sang sank saw shook sold spoke sprang stole swam swore threw took tore went woke wore wrote
    """.split()  # noqa: SIM905 - a list of words reads better as a text
)
# Words that end in -ed and are no participles.
_NOT_PAST = frozenset(
    "bed bleed breed deed embed exceed feed indeed need proceed red seed sled speed succeed wed weed".split()  # noqa: SIM905 - a list of words reads better as a text
)


def is_past_tense(name: str) -> bool:
    """Whether a name in kebab case says what happened: `order-placed`, `customer-checked-in`, `stock-ran-short`."""
    return any(
        word in _IRREGULAR or (word.endswith("ed") and word not in _NOT_PAST and len(word) > 3)  # noqa: PLR2004
        for word in name.split("-")
    )


def advice(event_class: type[IntegrationEvent]) -> Iterator[Finding]:
    """What could be better about an event's name and words."""
    topic, name = topic_of(event_class), event_class.__name__

    def finding(rule: Rule, now: str, fix: str) -> Finding:
        return Finding(rule=rule, event=topic.type, version=topic.version, reader=now, fix=fix)

    if not is_past_tense(topic.name):
        fix = "say what happened, as OrderPlaced does; an event is no command and no thing"
        yield finding(Rule.NAME_NOT_PAST_TENSE, topic.name, fix)
    suffix = _VERSION.search(name)
    if topic.version and (suffix is None or int(suffix[1]) != topic.version_number):
        fix = f"call the class {class_name(topic.type, topic.version_number)}, so that versions can stand side by side"
        yield finding(Rule.VERSION_SUFFIX, f"{name} is {topic.version}", fix)
    if topic.internal:
        return
    if not (event_class.__doc__ or "").strip():
        fix = "say in a docstring what happened, and when it is told"
        yield finding(Rule.DESCRIPTION_MISSING, f"{name} has no docstring", fix)
    if not topic.owner:
        yield finding(
            Rule.OWNER_MISSING, f"{name} has no owner", 'say who answers for it: @event_topic(…, owner="team")'
        )
