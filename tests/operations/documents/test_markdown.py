"""Markdown says all there is to say, and nothing that an author wrote means anything in it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mediator.operations.documents.markdown import code, escaped, fence, markdown_pages
from tests.operations.documents.languages import HOSTILE, language, sample

TEXTS = st.text(st.characters(exclude_categories=["C"])) | st.text(st.sampled_from("\\`*_{}[]<>#|~&!-+=.:1) \n\tax$"))


def tokens(text: str) -> list[Token]:
    found = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


def shown(text: str) -> str:
    return "".join(one.content for one in tokens(text) if one.type in {"text", "code_inline"})


@given(TEXTS)
def test_prose_is_shown_as_it_stands(text: str) -> None:
    found = tokens(escaped(text))

    assert shown(escaped(text)) == " ".join(text.split())
    assert {one.type for one in found} <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}


@given(TEXTS)
def test_cell_of_a_table_is_shown_as_it_stands(text: str) -> None:
    rows = [
        one.children
        for one in tokens(f"| a | b |\n| --- | --- |\n| x{escaped(text)} | x{code(text)} |")
        if one.children
    ]

    assert len(rows) == 4
    assert "".join(one.content for one in rows[2]) == f"x{' '.join(text.split())}"
    assert "".join(one.content for one in rows[3]) == f"x{' '.join(text.split())}"


@given(TEXTS)
def test_nothing_ends_a_block_of_code(text: str) -> None:
    block = "\n".join(fence(text, "json"))

    [found] = [one for one in tokens(block) if one.type == "fence"]
    assert found.content.rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize("documents", [sample(), language()], ids=["sample", "language"])
def test_pages_hold_no_markup_of_an_author(documents: object) -> None:
    for path, text in markdown_pages(documents).items():  # type: ignore[arg-type]
        kinds = {one.type for one in tokens(text)}
        assert not kinds & {"html_inline", "html_block", "image", "em_open", "s_open", "code_block"}, path
        links = [str(one.attrs["href"]) for one in tokens(text) if one.type == "link_open"]
        assert all(re.fullmatch(r"events/[a-z0-9.-]+\.md", link) for link in links), path


def test_hostile_text_is_there_in_full() -> None:
    page = markdown_pages(language())["events/shipping.hostile.v1.md"]

    headings = [after.content for before, after in pairwise(tokens(page)) if before.type == "heading_open"]
    assert headings == ["HostileV1", "Fields", "Example", "Producers", "Consumers", "Size"]
    assert shown(page).count(" ".join(HOSTILE.split())) >= 6


def test_page_says_all_there_is_to_say() -> None:
    page = markdown_pages(language())["events/shipping.parcel-sent.v1.md"]

    for said in (
        "| topic | `{environment}.shipping.public.parcels.v1` |",
        "| owner | team-shipping |",
        "| partition key | `tenant`, then `parcel_id` |",
        "| status | deprecated from 2026-03-01, not to be counted on from 2026-09-01; use",
        "| `pieces[].sku` | text | required | at most 40 characters | Stock keeping unit, as printed on the box. |",
        "| `email` | text | required | **sensitive** | Where the receipt goes. |",
        '"tenant": "acme"',
        "not known: made from the contracts alone",
        "- pieces: 3 elements assumed, and there is no limit",
    ):
        assert said in page


def test_page_names_producers_and_consumers() -> None:
    page = markdown_pages(sample())["events/inventory.stock-reserved.v1.md"]

    assert "- `inventory`: `StockReservedConverter`" in page
    assert "- `billing`: `billing.capture-payment`" in page
    assert "- `ordering`: `ordering.mark-order-reserved`" in page


def test_index_leads_to_every_page() -> None:
    pages = markdown_pages(sample())

    linked = {str(one.attrs["href"]) for one in tokens(pages["index.md"]) if one.type == "link_open"}
    assert linked == pages.keys() - {"index.md"}
    assert len(linked) == 14
