"""Lists, sets and tuples: each place's element, and how many there may be."""

from itertools import count

from mediator.operations.compatibility.reading.gaps import Gaps, Read, gap, within
from mediator.operations.compatibility.reading.scalars import tighter
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["read_array"]


def read_array(reader: Node, writer: Node, read: Read) -> Gaps:
    """An array against an array."""
    gaps: Gaps = ()
    if tighter(reader, writer, "minItems", "maxItems") or _loses_elements(reader, writer):
        gaps += gap(Rule.CONSTRAINT_TIGHTENED, reader, writer)
    firsts = max(len(node.data.get("prefixItems", ())) for node in (reader, writer))
    for place in count():
        if place > firsts or place >= writer.data.get("maxItems", float("inf")):
            break
        wanted, given = _element(reader, place), _element(writer, place)
        if wanted is None or given is None:
            continue  # the reader's limits of the length have spoken, or the writer has no such element
        step = f"[{place}]" if place < firsts else "[]"
        gaps += tuple(found for found in within(step, read(wanted, given)) if found not in gaps)
    return gaps


def _element(array: Node, place: int) -> Node | None:
    firsts = array.data.get("prefixItems", ())
    if place < len(firsts):
        return array.at(firsts[place])
    rest = array.data.get("items")
    if rest is False or (rest is None and "prefixItems" in array.data):
        return None
    return array.at(rest if rest is not None else True)


def _loses_elements(reader: Node, writer: Node) -> bool:
    """A set has fewer elements than the list that it is read from, which may be fewer than it has to have."""
    if not reader.data.get("uniqueItems") or reader.data.get("minItems", 0) <= 1:
        return False
    wanted, given = _element(reader, 0), _element(writer, 0)
    if not writer.data.get("uniqueItems") or wanted is None or given is None:
        return True
    if wanted.values is not None and given.values is not None:
        return False  # literals are read as themselves, so they stay apart
    alike = wanted.data.get("format") == given.data.get("format") and wanted.checks == given.checks
    return not (alike and wanted.types & given.types and given.types <= {"string", "integer", "boolean"})
