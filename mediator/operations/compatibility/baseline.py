"""The baseline: what was accepted, in one file for each event version, inside the contracts package.

    baseline = Baseline(Path("shop_contracts/baseline"))
    baseline.entries()["ordering.order-placed", "v1"].states      # the oldest first

A file keeps every state that was accepted, because rows of each may still lie in an outbox or among dead letters. It
is written with sorted keys and without a date, so that it changes only when a contract does, and it is replaced as a
whole: who reads it while it is written sees the old file or the new one.

An event that is removed keeps its file, with the reason. Were it to come back, old rows would still have to be read.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mediator.errors import BaselineError
from mediator.operations.compatibility.rules import Direction, Rule
from mediator.operations.compatibility.schemas.exact import Schemas
from mediator.operations.compatibility.schemas.intact import check_intact
from mediator.operations.compatibility.states import EventState, Identity, KeyField

__all__ = ["FORMAT", "AcceptedBreak", "AcceptedState", "Baseline", "BaselineEntry"]

FORMAT = 1
_RESTORE = "restore the file from version control, or accept the event again after deleting it"
_LARGEST = 16 * 1024 * 1024

_SchemaText = Annotated[dict[str, Any], AfterValidator(check_intact)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class AcceptedBreak(_Part):
    """One finding that somebody accepted: it is not reported again for the states before."""

    rule: Rule
    path: str
    direction: Direction | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.rule.value, self.path, self.direction.value if self.direction else ""


class AcceptedState(_Part):
    """What the class read and wrote at that time, and what it broke."""

    reads: _SchemaText
    writes: _SchemaText
    reason: str | None = None
    breaks: tuple[AcceptedBreak, ...] = ()

    @property
    def schemas(self) -> Schemas:
        return Schemas(self.reads, self.writes)


class BaselineEntry(_Part):
    """One file."""

    format: Literal[1] = 1
    type: str
    version: str
    topic: str
    partition_keys: tuple[KeyField, ...]
    sensitive: tuple[str, ...]
    removed: str | None = None
    """The reason for which the event was removed; None while it exists."""
    states: tuple[AcceptedState, ...] = Field(min_length=1)

    @property
    def identity(self) -> Identity:
        return self.type, self.version

    @property
    def newest(self) -> AcceptedState:
        return self.states[-1]

    @property
    def file_name(self) -> str:
        return f"{self.type}.{self.version}.json" if self.version else f"{self.type}.json"

    @classmethod
    def of(cls, state: EventState, states: tuple[AcceptedState, ...]) -> "BaselineEntry":
        return cls(
            type=state.type,
            version=state.version,
            topic=state.topic,
            partition_keys=state.partition_keys,
            sensitive=state.sensitive,
            states=states,
        )


class Baseline:
    """The folder with the files; one that does not exist is empty."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def entries(self) -> dict[Identity, BaselineEntry]:
        """All that was accepted, by type and version."""
        return {entry.identity: entry for entry in self._read_all()}

    def write(self, entry: BaselineEntry) -> Path:
        """Store an entry, in one step; returns the file."""
        path = self.folder / entry.file_name
        text = json.dumps(entry.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as folder:
                fresh = Path(folder, path.name)
                fresh.write_bytes(text.encode())
                fresh.replace(path)
        except OSError as error:
            raise BaselineError(str(path), f"it cannot be written: {error}", "make the folder writable") from error
        return path

    def _read_all(self) -> Iterator[BaselineEntry]:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise BaselineError(str(self.folder), "it is no folder", "name the folder that holds the baseline")
        for path in sorted(self.folder.glob("*.json")):
            entry = _read(path)
            if path.name != entry.file_name:
                what = f"it holds {entry.type} {entry.version}".rstrip()
                raise BaselineError(str(path), what, f"call it {entry.file_name}, or delete it if it is a copy")
            yield entry


def _read(path: Path) -> BaselineEntry:
    try:
        if path.stat().st_size > _LARGEST:
            raise BaselineError(str(path), f"it has more than {_LARGEST} bytes", _RESTORE)
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(str(path), f"it cannot be read: {error}", _RESTORE) from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            raise BaselineError(
                str(path),
                f"line {number} is the mark of a merge conflict",
                "keep the states of both sides, oldest first; then check, and accept what is new",
            )
    try:
        data = json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise BaselineError(str(path), f"it is no JSON: {error}", _RESTORE) from error
    written = data.get("format") if isinstance(data, dict) else None
    if type(written) is int and written > FORMAT:
        fix = "upgrade the toolkit: a newer one wrote the file"
        raise BaselineError(str(path), f"it has the format {written}, this toolkit knows {FORMAT}", fix)
    try:
        return BaselineEntry.model_validate(data)
    except (ValidationError, RecursionError) as error:
        raise BaselineError(str(path), _first(error), _RESTORE) from error


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole file"
    return f"it is no baseline: {where}: {first['msg']}"


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
