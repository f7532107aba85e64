"""The outline of a schema: every field with its path, those of nested models among them.

    dict(outline(Node.of(schemas.reads)))     # {"lines[].price": …, "prices{}": …, "payment(card).number": …}

The members of a discriminated union are told apart by their tags, those of another union by their number. A model
within itself is entered once.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mediator.operations.compatibility.schemas.nodes import Node

__all__ = ["Place", "outline"]

Place = tuple[str, Node, Mapping[str, Any], bool]
"""Path, node, what is said where it is used (such as a default), and whether it is required."""


def outline(root: Node) -> Iterator[Place]:
    """The event itself first, with an empty path."""
    yield "", root, root.data, True
    yield from _below(root, "", frozenset())


def _below(node: Node, path: str, above: frozenset[int]) -> Iterator[Place]:
    if node.key in above:
        return
    above |= {node.key}
    for name, field in node.properties.items():
        here = f"{path}.{name}" if path else name
        inner = node.at(field)
        yield here, inner, field, name in node.required
        yield from _below(inner, here, above)
    if node.is_mapping:
        yield from _below(node.at(node.data["additionalProperties"]), f"{path}{{}}", above)
    if isinstance(node.data.get("items"), Mapping):
        yield from _below(node.at(node.data["items"]), f"{path}[]", above)
    for place, inner in enumerate(node.data.get("prefixItems", ())):
        yield from _below(node.at(inner), f"{path}[{place}]", above)
    yield from _in_members(node, path, above)


def _in_members(node: Node, path: str, above: frozenset[int]) -> Iterator[Place]:
    tags = node.data.get("x-tags")
    members = [node.at(choice) for choice in node.data.get("anyOf", node.data.get("oneOf", ()))]
    several = sum(member.types != {"null"} for member in members) > 1
    for number, member in enumerate(members, 1):
        mark = f"({tags[number - 1] if tags else number})" if several else ""
        yield from _below(member, path + mark, above)
