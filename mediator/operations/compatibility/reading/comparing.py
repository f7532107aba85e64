"""Whether a reader can read whatever a writer writes, decided on their schemas.

    gaps = can_read(schemas_of(OrderPlacedV1).reads, accepted.writes)
    assert not gaps, gaps

The promise: when there is no gap, no instance of the writer that its own class can read back is refused by the reader,
as far as schemas show it (what a validator function does, they do not show). The other way round it is careful: where
it cannot prove that a value is read, it reports a gap. Pydantic would take a number for a text that looks like one, a
number for a moment, 1 for `true`; such readings are reported, because they succeed by luck or mean something else.

Two models that contain themselves are compared by assuming, at the place where the comparison meets itself, that it
succeeds: the pair fails if anything else in it does.
"""

from collections.abc import Mapping
from typing import Any

from mediator.operations.compatibility.reading.arrays import read_array
from mediator.operations.compatibility.reading.gaps import Gaps, gap
from mediator.operations.compatibility.reading.objects import read_object
from mediator.operations.compatibility.reading.scalars import read_scalar
from mediator.operations.compatibility.reading.unions import read_alternatives, read_into_union, read_values
from mediator.operations.compatibility.rules import Rule
from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["can_read"]

_MOST = 50
"""Gaps that one place reports: models that share parts could have more paths than anybody reads."""


def can_read(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Gaps:
    """Where the reader would refuse what the writer writes; nothing means that it reads all of it.

    `reader` is the `reads` and `writer` the `writes` of `schemas_of`.
    """
    return _Comparison().read(Node.of(reader), Node.of(writer))


class _Comparison:
    """Remembers which pairs of places are known, and which are being compared."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Gaps] = {}
        self._open: dict[tuple[int, int], int] = {}
        self._assumed: float = float("inf")
        """The outermost open pair that was taken for granted since the current one was opened."""

    def read(self, reader: Node, writer: Node) -> Gaps:
        key = (reader.key, writer.key)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            self._assumed = min(self._assumed, self._open[key])
            return ()
        depth = self._open[key] = len(self._open)
        outer, self._assumed = self._assumed, float("inf")
        gaps = self._compare(reader, writer)[:_MOST]
        del self._open[key]
        if gaps or self._assumed >= depth:
            # A success that rests on a pair further out is not known before that one is.
            self._known[key] = gaps
        self._assumed = min(outer, self._assumed if self._assumed < depth else outer)
        return gaps

    def _compare(self, reader: Node, writer: Node) -> Gaps:  # noqa: PLR0911 - one for each kind
        if reader.is_anything:
            return ()
        if writer.is_anything:
            return gap(Rule.TYPE_CHANGED, reader, writer)
        if writer.alternatives:
            return read_alternatives(reader, writer, self.read)
        if reader.alternatives:
            return read_into_union(reader, writer, self.read)
        if writer.values is not None:
            return read_values(reader, writer)
        if "null" in writer.types and "null" not in reader.types:
            return gap(Rule.NULL_NOT_ALLOWED, reader, writer)
        if reader.values is not None:
            return self._read_into_values(reader, writer)
        if "object" in writer.types and "object" in reader.types:
            return read_object(reader, writer, self.read)
        if "array" in writer.types and "array" in reader.types:
            return read_array(reader, writer, self.read)
        return read_scalar(reader, writer)

    def _read_into_values(self, reader: Node, writer: Node) -> Gaps:
        if writer.types == {"boolean"}:
            return read_values(reader, writer, [True, False])
        same_kind = writer.types & reader.types or not reader.types
        return gap(Rule.ENUM_NARROWED if same_kind else Rule.TYPE_CHANGED, reader, writer)
