"""HTML pages: the same as in Markdown, to be opened from a folder, a web server or a phone.

    html_pages(documents)       {"index.html": "…", "events/ordering.order-placed.v1.html": "…"}

A page needs nothing but itself: style and script are in it, and its policy forbids the browser to load or run anything
else, so that a docstring with a `<script>` in it is a text, twice over. Without JavaScript the search alone is missing.
It needs the extra `docs` (Jinja2).
"""

from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from mediator.errors import SettingsError
from mediator.operations.documents.events import EventDocuments
from mediator.operations.documents.prose import paragraphs
from mediator.operations.documents.schemas import as_text, schema_id

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["html_pages"]


def html_pages(documents: EventDocuments) -> dict[str, str]:
    """The index, and a page for each event."""
    environment = _environment()
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hashed(environment, 'style.css')}; script-src {_hashed(environment, 'search.js')}"
    )
    shared = {"documents": documents, "policy": policy}
    page = environment.get_template("event.html")
    pages = {"index.html": environment.get_template("index.html").render(shared)}
    for event in documents.events:
        example = None if event.example is None else as_text(event.example)
        pages[f"events/{event.slug}.html"] = page.render(
            shared,
            event=event,
            example=example,
            schema=schema_id(event),
            known=documents.named,
            paragraphs=paragraphs(event.description),
        )
    return pages


def _environment() -> "Environment":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise SettingsError("documents", "html", 'install the extra: pip install "mediator-toolkit[docs]"') from error
    return Environment(
        loader=PackageLoader("mediator.operations.documents"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _hashed(environment: "Environment", name: str) -> str:
    text = environment.get_template(name).render()
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
