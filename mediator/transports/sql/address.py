"""What a URL of this transport says.

    sql://?lanes=8
    sql+postgresql+asyncpg://user@host/events?lanes=8&prefix=bus_&schema=bus&ssl=require

Behind `sql+` stands the URL of a database, whose driver gets whatever is not the transport's own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mediator.errors import SettingsError
from mediator.storage.database import Database, checked_url
from mediator.transports.sql.line import NAME

__all__ = ["Address", "read_url"]

_OWN = f"{NAME}://"
_EXAMPLE = "write sql:// for the application's own database, or sql+postgresql+asyncpg://user@host/database"
_LANES, _MOST_LANES = 16, 64
_OPTIONS = ("lanes", "prefix", "schema")


class Address(NamedTuple):
    """Where the events are."""

    database: Database | None
    """None is the application's own."""
    lanes: int


def read_url(url: str) -> Address:
    """What `url` names; raises SettingsError. Connects to nothing."""
    if not url.startswith(f"{NAME}+"):
        return Address(None, _own(url))
    try:
        parsed, options = _apart(url.removeprefix(f"{NAME}+"))
        database = Database(
            parsed,
            prefix=str(options.get("prefix", "mediator_")),
            schema=str(options["schema"]) if "schema" in options else None,
        )
    except SettingsError as error:
        shown = error.value if error.setting != "database" else f"{NAME}+{error.value}"
        raise SettingsError("transport", shown, error.fix) from error
    return Address(database, _lanes(options.get("lanes")))


def _apart(url: str) -> tuple[URL, Mapping[str, Any]]:
    """The database, and what is the transport's own."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Says so without telling what is in it.
        return checked_url(url), {}
    options = {name: parsed.query[name] for name in _OPTIONS if name in parsed.query}
    return checked_url(parsed.difference_update_query(options)), options


def _own(url: str) -> int:
    parts = urlsplit(url)
    if parts.netloc or parts.path not in {"", "/"} or parts.fragment:
        raise SettingsError("transport", f"{_OWN}…", _EXAMPLE)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - {"lanes"}):
        fix = "it takes lanes; prefix and schema are MediatorSettings(table_prefix=..., schema_name=...)"
        raise SettingsError("transport", f"{_OWN}?{unknown[0]}=…", fix)
    return _lanes(options.get("lanes"))


def _lanes(value: Any) -> int:
    if value is None:
        return _LANES
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or not 1 <= int(value) <= _MOST_LANES:
        raise SettingsError("transport", f"lanes={value}", f"lanes is a number from 1 to {_MOST_LANES}")
    return int(value)
