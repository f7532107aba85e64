"""Comparisons that meet themselves, and models that share parts: they end, soon, and with the right answer."""

from time import perf_counter
from typing import Any

from pydantic import BaseModel, create_model

from mediator.operations.compatibility import can_read, schemas_of


class Leaf(BaseModel):
    size: int


class TextLeaf(BaseModel):
    size: str


class Branch(BaseModel):
    left: "Branch | Leaf"
    right: "Branch | Leaf"


class MixedBranch(BaseModel):
    left: "MixedBranch | Leaf"
    right: "MixedBranch | TextLeaf"


class Even(BaseModel):
    next: "Odd | None" = None


class Odd(BaseModel):
    next: "Even | None" = None
    size: int


class Chain(BaseModel):
    next: "Chain | None" = None
    size: int = 0


class Outer(BaseModel):
    inner: "Inner"
    size: str


class Inner(BaseModel):
    outer: Outer | None = None


class WrittenOuter(BaseModel):
    inner: "WrittenInner"
    size: int


class WrittenInner(BaseModel):
    outer: WrittenOuter | None = None


class Loose(BaseModel):
    pass


def readable(reader: type[BaseModel], writer: type[BaseModel]) -> bool:
    return not can_read(schemas_of(reader).reads, schemas_of(writer).writes)


def towers(leaf: type[BaseModel], height: int) -> type[BaseModel]:
    """Each floor holds the one below twice: 2 ** height ways lead to the ground."""
    floor = leaf
    for number in range(height):
        create: Any = create_model
        floor = create(f"Floor{number}", left=(floor, ...), right=(floor, ...))
    return floor


def test_union_within_itself() -> None:
    assert readable(Branch, Branch)
    assert not readable(Branch, MixedBranch)
    assert not readable(MixedBranch, Branch)


def test_success_that_was_assumed_in_a_failed_attempt_is_not_remembered() -> None:
    """`Inner` reads its counterpart if `Outer` does, which is tried for `a` in vain; `b` must not profit from that."""
    create: Any = create_model
    reader = create("Reader", a=(Outer | Loose, ...), b=(Inner, ...))
    writer = create("Writer", a=(WrittenOuter, ...), b=(WrittenInner, ...))

    gaps = can_read(schemas_of(reader).reads, schemas_of(writer).writes)

    assert [gap.path for gap in gaps] == ["b.outer.size"]


def test_two_models_that_hold_each_other() -> None:
    assert readable(Chain, Odd)
    assert not readable(Odd, Even)
    assert not readable(Even, Odd)
    assert readable(Even, Even)


def test_models_that_share_parts_are_compared_once() -> None:
    began = perf_counter()

    assert readable(towers(Leaf, 40), towers(Leaf, 40))
    assert perf_counter() - began < 5


def test_gaps_of_shared_parts_are_not_listed_for_every_path() -> None:
    gaps = can_read(schemas_of(towers(TextLeaf, 40)).reads, schemas_of(towers(Leaf, 40)).writes)

    assert 0 < len(gaps) <= 50
    assert gaps[0].path == ".".join(["left"] * 40 + ["size"])
