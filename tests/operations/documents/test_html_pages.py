"""HTML pages need nothing but themselves, and what an author wrote is text in them."""

import re
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from mediator.errors import SettingsError
from mediator.operations.documents.events import EventDocuments
from mediator.operations.documents.html_pages import html_pages
from tests.operations.documents.languages import HOSTILE, language, sample

LANGUAGES = pytest.mark.parametrize("documents", [sample(), language()], ids=["sample", "language"])
VOID = {"meta", "input", "wbr", "br"}


class Page(HTMLParser):
    """A page as a browser would see it: its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for found, attributes in self.elements if found == tag)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


@LANGUAGES
def test_pages_are_well_formed_and_load_nothing(documents: EventDocuments) -> None:
    pages = html_pages(documents)
    for path, text in pages.items():
        page = Page(text)
        assert page.open == [], path
        assert {tag for tag, _ in page.elements} <= ALLOWED, path
        assert not [name for _, attributes in page.elements for name in attributes if name in LOADING], path
        folder = path.rpartition("/")[0]
        for link in page.all("a"):
            target = re.sub(r"^[^/]+/\.\./", "", f"{folder}/{link['href']}".lstrip("/"))
            assert target in pages, f"{path} leads to {link['href']}"


ALLOWED = {
    "html", "head", "meta", "title", "style", "script", "body", "nav", "main", "h1", "h2", "p", "a", "br", "wbr",
    "strong", "code", "pre", "table", "caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "div", "span",
    "ul", "li", "label", "input", "output",
}  # fmt: skip
LOADING = {"src", "srcset", "style", "onclick", "onload", "onerror", "action", "data", "ping", "background"}


def test_hostile_text_is_text() -> None:
    page = Page(html_pages(language())["events/shipping.hostile.v1.html"])

    assert page.text.count(" ".join(HOSTILE.split())) >= 5
    assert not list(page.all("script"))


@LANGUAGES
def test_policy_lets_the_pages_own_style_and_script_run_and_no_other(documents: EventDocuments) -> None:
    for path, text in html_pages(documents).items():
        (policy,) = (one["content"] for one in Page(text).all("meta") if one.get("http-equiv"))
        assert policy is not None
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for kind in ("style", "script"):
            for own in re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL):
                assert f"{kind}-src 'sha256-{b64encode(sha256(own.encode()).digest()).decode()}'" in policy, path


@LANGUAGES
def test_pages_can_be_read_by_everybody(documents: EventDocuments) -> None:
    for path, text in html_pages(documents).items():
        page = Page(text)
        assert next(page.all("html"))["lang"] == "en", path
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in list(page.all("meta")), path
        assert sum(1 for _ in page.all("h1")) == sum(1 for _ in page.all("main")) == 1, path
        assert all(one.get("scope") in {"col", "row"} for one in page.all("th")), path
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        named = [
            one for _, attributes in page.elements for one in (attributes.get("aria-labelledby"), attributes.get("for"))
        ]
        assert {one for one in named if one} <= set(ids), path
        assert len(ids) == len(set(ids)), path


def test_pages_follow_the_readers_colours_and_width() -> None:
    page = html_pages(sample())["index.html"]

    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media (max-width: 45rem)" in page


def test_search_is_hidden_from_browsers_without_javascript() -> None:
    page = Page(html_pages(sample())["index.html"])

    (search,) = (one for one in page.all("p") if one.get("class") == "search")
    assert "hidden" in search


def test_page_says_all_there_is_to_say() -> None:
    text = Page(html_pages(language())["events/shipping.parcel-sent.v1.html"]).text

    for said in (
        "A parcel left the house; it is on its way.",
        "Deprecated from 2026-03-01, not to be counted on from 2026-09-01. Use shipping.parcel-sent.v2 instead.",
        "{environment}.shipping.public.parcels.v1",
        "team-shipping",
        "tenant, then parcel_id",
        "urn:shipping:parcel-sent:v1",
        "partition key, part 2",
        "Stock keeping unit, as printed on the box.",
        "sensitive",
        '"tenant": "acme"',
        "Not known: made from the contracts alone.",
        "pieces: 3 elements assumed, and there is no limit",
    ):
        assert said in text, said


def test_page_names_producers_and_consumers() -> None:
    text = Page(html_pages(sample())["events/inventory.stock-reserved.v1.html"]).text

    assert "inventory: StockReservedConverter" in text
    assert "billing: billing.capture-payment" in text


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(SettingsError, match=r"mediator-toolkit\[docs\]"):
        html_pages(sample())
