"""Writing documents to a folder: each file whole or not at all, and nothing that is somebody else's is touched.

    write_files("docs/events", markdown_pages(documents), kind="markdown")

A file appears under its name when it is complete. What an earlier run of the same kind has written and this one no
longer has, such as the page of an event that is gone, is removed, unless somebody has changed it since. A list in the
folder, `.event-documents.json`, says what was written; without it nothing is removed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mediator.errors import SettingsError

__all__ = ["RECORD", "Written", "write_files"]

RECORD = ".event-documents.json"


@dataclass(frozen=True, slots=True)
class Written:
    """What a run did to a folder, as paths in it."""

    changed: tuple[str, ...]
    """New, or with other content than before."""
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """No longer made, and still there because somebody has changed them."""


def write_files(folder: str | Path, files: Mapping[str, str], *, kind: str) -> Written:
    """Write `{path in the folder: text}`; several kinds of documents may share a folder."""
    root = Path(folder)
    places = {path: _place(root, path) for path in sorted(files)}
    record = _read(root / RECORD)
    before = record.get(kind, {})
    changed = [path for path, place in places.items() if _write(place, files[path])]
    removed, kept = [], {}
    for path in sorted(before.keys() - places.keys()):
        place = _place(root, path)
        if place.is_file():
            if _digest(place.read_bytes()) == before[path]:
                place.unlink()
                removed.append(path)
            else:
                kept[path] = before[path]
    record[kind] = {**kept, **{path: _digest(files[path].encode()) for path in places}}
    _write(root / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")
    return Written(tuple(changed), tuple(path for path in places if path not in changed), tuple(removed), tuple(kept))


def _place(root: Path, path: str) -> Path:
    place = root / path
    if path == RECORD or not path or not place.resolve().is_relative_to(root.resolve()):
        raise SettingsError("path", path, f"documents stay within {root}, and leave {RECORD} to this function")
    return place


def _read(place: Path) -> dict[str, dict[str, str]]:
    if not place.exists():
        return {}
    try:
        found = json.loads(place.read_bytes())
        return {str(kind): {str(path): str(digest) for path, digest in of.items()} for kind, of in found.items()}
    except (ValueError, AttributeError):
        raise SettingsError(
            "folder", str(place.parent), f"its {RECORD} is damaged: delete it, and write again"
        ) from None


def _write(place: Path, text: str) -> bool:
    """Whether there was something to write."""
    content = text.encode()
    if place.is_file() and place.read_bytes() == content:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
