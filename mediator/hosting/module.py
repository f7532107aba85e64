"""A module of the application: a package, what is bound for it, and perhaps a database of its own."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mediator.errors import SettingsError

__all__ = ["Bindings", "Module"]

Bindings: TypeAlias = Sequence[Callable[[Any], Any] | type[Any] | Any]
"""What `injector.Injector` takes: functions of a binder, and injector modules."""

_LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Module:
    """One module. Everything below `package` that is a handler, a converter or a validator belongs to it.

    Module("ordering", package="shop.ordering", bindings=[OrderingBindings])
    """

    name: str
    package: str
    bindings: Bindings = ()
    exclude: tuple[str, ...] = ()
    """Dotted names below `package` that are not imported: migrations, scripts."""
    database: str | None = None
    """URL of a database of its own."""
    schema_name: str | None = None
    """Where its outbox, inbox and parked deliveries are, in its database; not on SQLite."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise SettingsError(
                "Module.name",
                self.name,
                "use lower-case words joined by dashes, at most 40 characters: it names a group",
            )
        if not all(part.isidentifier() for part in self.package.split(".")):
            raise SettingsError("Module.package", self.package, "use the dotted name of an importable package")
