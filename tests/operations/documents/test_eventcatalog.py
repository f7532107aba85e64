"""The layout of EventCatalog: where it looks for pages, and front matter that says what it asks for."""

import json
import re
from typing import Any

from mediator.operations.documents.eventcatalog import eventcatalog_files
from tests.operations.documents.languages import HOSTILE, language, sample


def front_matter(page: str) -> dict[str, Any]:
    """Each line is a name and JSON, which is YAML as well."""
    _, front, _ = page.split("---\n", 2)
    return {name: json.loads(value) for name, _, value in (line.partition(": ") for line in front.splitlines())}


def test_newest_version_lies_in_front_of_the_older_ones() -> None:
    files = eventcatalog_files(sample())

    assert front_matter(files["events/ordering.order-placed/index.mdx"])["version"] == "v2"
    assert front_matter(files["events/ordering.order-placed/versioned/v1/index.mdx"])["version"] == "v1"
    assert "events/ordering.order-placed/versioned/v1/schema.json" in files


def test_event_says_what_the_catalog_asks_for() -> None:
    files = eventcatalog_files(language())

    facts = front_matter(files["events/shipping.parcel-sent/versioned/v1/index.mdx"])
    assert facts == {
        "id": "shipping.parcel-sent",
        "name": "ParcelSentV1",
        "version": "v1",
        "summary": "A parcel left the house; it is on its way.",
        "owners": ["team-shipping"],
        "schemaPath": "schema.json",
        "channels": [{"id": "shipping.public.parcels.v1"}],
        "deprecated": {
            "message": "deprecated from 2026-03-01, not to be counted on from 2026-09-01; "
            "use shipping.parcel-sent.v2 instead",
            "date": "2026-03-01",
        },
    }


def test_service_is_a_module_with_what_it_sends_and_receives() -> None:
    files = eventcatalog_files(sample())

    facts = front_matter(files["services/billing/index.mdx"])
    assert [(one["id"], one["version"]) for one in facts["sends"]] == [
        ("billing.payment-captured", "v1"),
        ("billing.payment-declined", "v1"),
    ]
    assert facts["receives"][-1] == {
        "id": "ordering.order-placed",
        "version": "v2",
        "from": [{"id": "ordering.public.orders.v2"}],
    }
    assert json.loads(files["services/billing/asyncapi.json"])["asyncapi"] == "3.1.0"


def test_whatever_is_pointed_to_is_there() -> None:
    files = eventcatalog_files(sample())
    pages = [front_matter(text) for path, text in files.items() if path.endswith(".mdx")]
    there = {(page["id"], page["version"]) for page in pages}
    channels = {page["id"] for page in pages if "address" in page}

    pointers = [one for page in pages for one in (*page.get("sends", ()), *page.get("receives", ()))]
    assert len(pointers) == 26
    for pointer in pointers:
        assert (pointer["id"], pointer["version"]) in there
        assert {one["id"] for one in (*pointer.get("to", ()), *pointer.get("from", ()))} <= channels


def test_nothing_in_a_page_is_code_to_mdx() -> None:
    page = eventcatalog_files(language())["events/shipping.hostile/index.mdx"]

    body = re.sub(r"^````?\w*\n.*?^````?$", "", page.split("---\n", 2)[2], flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"(`+)(?!`).*?[^`]\1(?!`)", "", re.sub(r"\\.", "", body))
    assert not re.search("[{<]", prose)
    assert not re.search(r"^(import|export)\b", body, re.MULTILINE)
    assert "&#105;mport" in body
    assert front_matter(page)["summary"] == f"import {' '.join(HOSTILE.split())}"


def test_event_that_stays_in_the_application_is_on_no_channel() -> None:
    files = eventcatalog_files(language())

    assert "channels" not in front_matter(files["events/shipping.tree-grown/index.mdx"])
    assert not any("trees" in path for path in files)
