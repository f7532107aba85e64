"""Prose keeps its paragraphs and lists, and loses the line breaks of its source."""

from mediator.operations.documents.markdown import markdown_pages
from mediator.operations.documents.prose import paragraphs
from tests.operations.documents.languages import language


def test_wrapped_lines_are_one() -> None:
    assert paragraphs("A parcel left\n  the house.\n\n\nIt is\non its way.\n") == (
        ("A parcel left the house.",),
        ("It is on its way.",),
    )


def test_items_of_a_list_stay_apart() -> None:
    text = "Sent when:\n- it is paid,\n  in full\n* it left\n1. or both\n-not an item"

    assert paragraphs(text) == (("Sent when:", "- it is paid, in full", "* it left", "1. or both -not an item"),)


def test_text_of_nothing_has_no_paragraph() -> None:
    assert paragraphs(" \n\n ") == ()


def test_lines_are_kept_in_markdown() -> None:
    page = markdown_pages(language())["events/shipping.hostile.v1.md"]

    assert "\\\n\\- \\<script" in page
