"""The corpus of bad input: a file for each message, in folders named after what is wrong with it.

    why = "A reader that takes the last of two keys handles what the one before it has not checked."
    reason = "json"                                      or: fine = true

    body = '''{"event_id": "<id>", "weight": 1, "weight": 2}'''

A file says in what its message differs from one that is fine; `<id>` and `<case>` stand for the id and the name that
are its own.

    headers.name = "text"       added, or instead of the one that is there
    without = ["name"]          left out
    again = [["name", "text"]]  another header of the name, behind the others
    numbered = 80               so many more headers
    bare = true                 no headers but those of the file
    fields.name = 1             of the JSON object that is the body
    body = "text"               instead of it
    topic = "returns.v1"        instead of parcels.v1
    letter = "failed"           the reason of its dead letter, where it is a handler's

A text may also be `{bytes = "\\u00ff"}`, where each character is a byte, `{text = "…", encoding = "utf-16"}`, or
`{parts = [["[", 100000], ["]", 100000]]}`, texts repeated so often. `refused_by.nats = "why"` names a broker that does
not take the message, and `reason_on.redis = "…"` one that cannot tell what others can; `fine` is a reason there.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

__all__ = ["CASES", "FINE", "FOLDERS", "Case", "carried"]

FOLDERS: Final = ("bytes", "json", "envelope", "headers", "schema", "identity")
FINE: Final = "fine"
_HERE: Final = Path(__file__).parent
_IDS: Final = UUID("0d1e5c52-6a0c-5d3a-9a37-3d8f6b1c2e4f")
_HEADERS: Final = {
    "ce-specversion": "1.0",
    "ce-id": "<id>",
    "ce-source": "/elsewhere/sender",
    "ce-type": "depot.parcel-arrived.v1",
    "ce-time": "2026-01-31T12:00:00+00:00",
    "content-type": "application/json",
    "x-case": "<case>",
}
_FIELDS: Final = {"event_id": "<id>", "occurred_on": "2026-01-31T12:00:00Z", "note": "<case>", "weight": 1}


@dataclass(frozen=True)
class Case:
    """A message, and what is to become of it."""

    name: str
    why: str
    reason: str
    """Why it is unreadable, or FINE."""
    letter: str
    """Why it is a dead letter, if it is one."""
    topic: str
    headers: Sequence[tuple[str, str | bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    refused_by: Mapping[str, str]
    reason_on: Mapping[str, str]

    def __str__(self) -> str:
        return self.name

    @property
    def has_name_twice(self) -> bool:
        """Whether some header comes twice."""
        return len(dict(self.headers)) < len(self.headers)

    @property
    def has_bytes(self) -> bool:
        """Whether some header is no text."""
        return len(list(_texts(self.headers))) < len(self.headers)

    def reason_over(self, broker: str) -> str:
        """What is to become of it behind a broker."""
        return self.reason_on.get(broker, self.reason)


def carried(headers: Sequence[tuple[str, str | bytes]]) -> dict[str, str]:
    """What arrives of headers: those that are text, and of several with one name the last."""
    return dict(_texts(headers))


def _texts(headers: Sequence[tuple[str, str | bytes]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        try:
            yield name, value if isinstance(value, str) else value.decode()
        except UnicodeDecodeError:
            continue


def _case(path: Path) -> Case:
    name = f"{path.parent.name}/{path.stem}"
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    own = {"<id>": str(uuid5(_IDS, name)), "<case>": name}
    headers = {} if told.pop("bare", False) else dict[str, Any](_HEADERS)
    for left_out in told.pop("without", ()):
        del headers[left_out]
    headers |= told.pop("headers", {})
    pairs = [*headers.items(), *told.pop("again", ())]
    pairs += [(f"x-number-{number}", "a") for number in range(told.pop("numbered", 0))]
    body = told.pop("body", None)
    fields = told.pop("fields", {})
    if body is None:
        body = json.dumps({**_FIELDS, **fields}, ensure_ascii=False)
    reason = FINE if told.pop("fine", False) else told.pop("reason")
    case = Case(
        name=name,
        why=told.pop("why"),
        reason=reason,
        letter=told.pop("letter", f"unreadable: {reason}"),
        topic=f"test.depot.public.{told.pop('topic', 'parcels.v1')}",
        headers=[(_own(one, own), _value(value, own)) for one, value in pairs],
        body=body if isinstance(body := _value(body, own), bytes) else body.encode(),
        refused_by=told.pop("refused_by", {}),
        reason_on=told.pop("reason_on", {}),
    )
    assert not told, f"{name}: what is {', '.join(told)}?"
    return case


def _value(value: Any, own: Mapping[str, str]) -> str | bytes:
    match value:
        case {"bytes": str(text)}:
            return _own(text, own).encode("latin-1")
        case {"text": str(text), "encoding": str(encoding)}:
            return _own(text, own).encode(encoding)
        case {"parts": [*parts]}:
            return "".join(_own(text, own) * times for text, times in parts)
        case str():
            return _own(value, own)
    raise ValueError(f"what is {value!r}?")


def _own(text: str, own: Mapping[str, str]) -> str:
    for placeholder, value in own.items():
        text = text.replace(placeholder, value)
    return text


CASES: Final = [_case(path) for folder in FOLDERS for path in sorted((_HERE / folder).glob("*.toml"))]
