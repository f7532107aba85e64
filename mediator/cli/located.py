"""What a command looks at: an application, contracts packages, and where their baseline is.

    [tool.mediator]                                  # in pyproject.toml, here or in a folder above
    app = "shop.wiring:app"                          # a MediatorApp, or a function without arguments that gives one
    contracts = ["shop_contracts"]                   # the packages that the baseline guards
    baseline = "shop_contracts/baseline"             # by default: `baseline` in the first of these packages

`--app` and `--baseline` come before the file. Without an application the contracts are looked at alone: who reads and
who writes them is unknown then. Modules are imported from the folder of `pyproject.toml`, or from where the command
runs; nothing is opened, neither a database nor a broker.
"""

import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts import IntegrationEvent, has_topic
from mediator.errors import Fault, SettingsError, WiringError
from mediator.hosting import MediatorApp
from mediator.hosting.discovery import classes_below, import_below, import_one
from mediator.messaging.registry import Registry
from mediator.operations.compatibility import Baseline
from mediator.operations.documents.events import EventDocuments, documents_of, documents_of_contracts

__all__ = ["Located", "locate"]

_HOW = "name what to look at: --app shop.wiring:app, or app or contracts under [tool.mediator] in pyproject.toml"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    app: str | None = None
    contracts: tuple[str, ...] = ()
    baseline: str | None = None


@dataclass(frozen=True)
class Located:
    """What was found, imported, and not started."""

    title: str
    events: tuple[type[IntegrationEvent], ...]
    """Every event that the baseline guards."""
    registry: Registry | None
    folder: Path | None
    """Where the baseline is, if that is known."""

    @property
    def baseline(self) -> Baseline:
        """The baseline; raises SettingsError when nobody said where it is."""
        if self.folder is None:
            fix = "name its folder: --baseline DIR, or baseline or contracts under [tool.mediator] in pyproject.toml"
            raise SettingsError("baseline", None, fix)
        return Baseline(self.folder)

    @property
    def documents(self) -> EventDocuments:
        """All that the documents are made from."""
        if self.registry is None:
            return documents_of_contracts(self.title, self.events)
        return documents_of(self.registry)


def locate(app: str | None, baseline: Path | None) -> Located:
    """Find it; raises SettingsError or WiringError."""
    root, settings = _settings()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    wanted = settings.app if app is None else app
    guarded = _events_of(settings.contracts)
    if wanted is None and not settings.contracts:
        raise SettingsError("app", None, _HOW)
    folder = _folder(root, settings) if baseline is None else baseline
    if wanted is None:
        return Located(settings.contracts[0], guarded, None, folder)
    registry = _application(wanted).registry
    known = tuple(entry.event_class for entry in registry.catalog)
    return Located(registry.application, guarded or known, registry, folder)


def _settings() -> tuple[Path, _Settings]:
    """The nearest file that says something of us, and the folder that it is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
            if "mediator" in tool:
                return folder, _Settings.model_validate(tool["mediator"], strict=False)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError("pyproject.toml", str(file), f"correct the file ({error})") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(["tool.mediator", *map(str, first["loc"])])
            raise SettingsError(where, str(first["input"])[:80], f"in {file}: {first['msg']}") from error
    return here, _Settings()


def _folder(root: Path, settings: _Settings) -> Path | None:
    if settings.baseline is not None:
        return root / settings.baseline
    if settings.contracts:
        first = sys.modules[settings.contracts[0]]
        # A single module has no folder of its own.
        places = getattr(first, "__path__", None) or [Path(str(first.__file__)).parent]
        return Path(next(iter(places))) / "baseline"
    return None


def _events_of(packages: Sequence[str]) -> tuple[type[IntegrationEvent], ...]:
    faults: list[Fault] = []
    found = [
        event
        for package in packages
        for event in classes_below(import_below(package, (), f"contracts package {package!r}", faults))
        if issubclass(event, IntegrationEvent) and has_topic(event)
    ]
    if faults:
        raise WiringError(faults)
    return tuple(dict.fromkeys(found))


def _application(wanted: str) -> MediatorApp:
    module, colon, attribute = wanted.partition(":")
    if not (colon and module and attribute):
        raise SettingsError("app", wanted, "write module:attribute, such as shop.wiring:app")
    faults: list[Fault] = []
    found: Any = import_one(module, "app", faults)
    if found is None:
        raise SettingsError("app", wanted, faults[0].what)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise SettingsError("app", wanted, f"{module} has no attribute {attribute}")
        found = getattr(found, name)
    if not isinstance(found, MediatorApp) and callable(found):
        try:
            found = found()
        except TypeError as error:
            raise SettingsError("app", wanted, f"calling it without arguments failed: {error}") from error
    if not isinstance(found, MediatorApp):
        raise SettingsError("app", wanted, f"it is a {type(found).__name__}, and no MediatorApp")
    return found
