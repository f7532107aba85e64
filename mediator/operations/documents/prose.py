"""Prose of an author: paragraphs and lists are kept, and where a line was broken in the source is not.

A docstring is wrapped for an editor; on a phone the same breaks would leave every other line half empty.
"""

import re

__all__ = ["paragraphs"]

_ITEM = re.compile(r"(?:[-*+•]|\d+[.)])\s")


def paragraphs(text: str) -> tuple[tuple[str, ...], ...]:
    """The lines of each paragraph: one, or one for each item of a list in it."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in filter(None, (" ".join(line.split()) for line in block.splitlines())):
            if lines and not _ITEM.match(line):
                lines[-1] += f" {line}"
            else:
                lines.append(line)
        if lines:
            found.append(tuple(lines))
    return tuple(found)
