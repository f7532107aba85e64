"""Markdown: a page for each event, and an index. Whatever an author wrote is shown as it stands, and works nowhere.

    markdown_pages(documents)       {"index.md": "…", "events/ordering.order-placed.v1.md": "…"}

A docstring may hold pipes, tags and backticks, and one that broke a table, or ran in the browser of a wiki, would do so
in every copy. So every character that could mean something is escaped, in prose, in tables and in code.
"""

import re
from collections.abc import Iterable, Iterator

from mediator.operations.documents.events import EventDocument, EventDocuments
from mediator.operations.documents.prose import paragraphs
from mediator.operations.documents.schemas import as_text, schema_id

__all__ = ["code", "escaped", "fence", "markdown_pages", "sections"]

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&!$^]")
_AT_A_START = re.compile(r"^(\s*)([-+=:]|\d+[.)])")
_UNKNOWN = "not known: made from the contracts alone"


def markdown_pages(documents: EventDocuments) -> dict[str, str]:
    """The index, and a page for each event."""
    pages = {"index.md": "\n".join(_index(documents))}
    for event in documents.events:
        pages[f"events/{event.slug}.md"] = "\n".join((f"# {escaped(event.name)}", "", *sections(event, documents)))
    return pages


def escaped(text: str) -> str:
    """A text on one line, in which nothing means anything to Markdown."""
    line = " ".join(text.split())
    line = _SPECIAL.sub(r"\\\g<0>", line)
    return _AT_A_START.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", line)


def code(text: str) -> str:
    """A text as it stands, in a table as well."""
    line = " ".join(text.split())
    if not line:
        return ""
    marks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    space = " " if "`" in (line[0], line[-1]) else ""
    return f"{marks}{space}{line}{space}{marks}".replace("|", "\\|")


def fence(text: str, language: str) -> Iterator[str]:
    """A block of code that nothing in it can end."""
    marks = "`" * max(3, max((len(run) + 1 for run in re.findall("`+", text)), default=0))
    yield f"{marks}{language}"
    yield text.rstrip("\n")
    yield marks
    yield ""


def sections(event: EventDocument, documents: EventDocuments) -> Iterator[str]:
    """All that a page says below its title."""
    for lines in paragraphs(event.description):
        # A backslash at its end keeps a line a line.
        yield from ("\\\n".join(map(escaped, lines)), "")
    yield from _table(("what", "value"), _facts(event))
    yield from ("## Fields", "")
    yield from _table(("field", "type", "presence", "more", "description"), _rows(event))
    yield from ("## Example", "")
    if event.example is None:
        yield from ("None could be made up that the contract accepts: write one in the contract, as `examples`.", "")
    else:
        yield from fence(as_text(event.example), "json")
    yield from ("## Producers", "")
    producers = event.producers
    if producers is None:
        yield from (_UNKNOWN, "")
    else:
        yield from _list((f"{code(one.module)}: {code(one.made_by)}" for one in producers), "no converter makes it, "
                         "and no handler's signature says that it does; it may be published by hand")  # fmt: skip
    yield from ("## Consumers", "")
    if event.consumers is None:
        yield from (_UNKNOWN, "")
    else:
        yield from _list(
            (
                f"{code(one.module)}: {code(one.subscriber_id)}"
                + (f", which reads it as {code(one.reads_as)}" if one.reads_as != event.slug else "")
                for one in event.consumers
            ),
            f"none in {escaped(documents.title)}",
        )
    yield from ("## Size", "")
    yield from (_size(event), "")
    yield from _list((escaped(note) for note in event.size.notes), "Every byte is fixed.")


def _index(documents: EventDocuments) -> Iterator[str]:
    yield from (f"# Events of {escaped(documents.title)}", "")
    rows = [
        (
            f"[{escaped(event.name)}](events/{event.slug}.md)",
            code(event.address),
            escaped(event.status_words),
            escaped(event.owner),
            escaped(event.summary),
        )
        for event in documents.events
    ]
    yield from _table(("event", "topic", "status", "owner", "what happened"), rows)


def _facts(event: EventDocument) -> Iterator[tuple[str, str]]:
    yield "event", code(event.slug)
    yield "topic", code(event.address) + (", never on a broker" if event.local else "")
    yield "scope", "within its application" if event.local else event.scope
    yield "version", code(event.version) or "none"
    yield "status", escaped(event.status_words)
    yield "owner", escaped(event.owner) or "not stated"
    keys = ", then ".join(code(key) for key in event.partition_keys)
    yield "partition key", keys or "none: its events keep no order"
    yield "estimated size", _size(event)
    yield "schema", code(schema_id(event))


def _rows(event: EventDocument) -> Iterator[tuple[str, ...]]:
    for field in event.fields:
        more = [f"part {field.key} of the partition key"] if field.key else []
        more += ["**sensitive**"] if field.sensitive else []
        more += [escaped(limit) for limit in field.constraints]
        more += [f"default {code(field.default)}"] if field.default and field.presence == "optional" else []
        yield code(field.path), escaped(field.type), field.presence, "; ".join(more), escaped(field.description)


def _size(event: EventDocument) -> str:
    size = event.size
    most = f"and at most {size.largest}" if size.largest is not None else "without an upper limit"
    return f"about {size.bytes} bytes; at least {size.smallest}, {most}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _list(items: Iterable[str], nothing: str) -> Iterator[str]:
    found = [f"- {item}" for item in items]
    yield from found or [nothing]
    yield ""
