"""Two kinds of import rule that import-linter does not have: lists of what is allowed instead of what is forbidden.

`only_imports`: the modules import the standard library and what `allowed` names, directly, and nothing else. A list of
forbidden libraries would be out of date the day somebody adds a dependency.

`confined`: each library on the right of an arrow is imported by the modules on its left only.

A name stands for a module and all below it; `*` stands for one part of a name; a module that does not exist is no
fault. `itself` in `allowed` is the package that a pattern of `modules` matched.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["Confined", "OnlyImports"]


def package_matched(pattern: str, module: str) -> str | None:
    """The module, or its ancestor, that the pattern names: `app.*.domain` and `app.a.domain.b` give `app.a.domain`."""
    wanted, parts = pattern.split("."), module.split(".")
    if len(parts) < len(wanted) or any(want not in ("*", part) for want, part in zip(wanted, parts, strict=False)):
        return None
    return ".".join(parts[: len(wanted)])


class AllowList(Contract):
    """What both kinds share: collect the imports that are not allowed, and show them with their lines."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found = sorted(self.breaches(graph))
        return ContractCheck(kept=not found, metadata={"breaches": [self.located(graph, *pair) for pair in found]})

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        raise NotImplementedError

    @staticmethod
    def located(graph: ImportGraph, importer: str, imported: str) -> str:
        details = graph.get_import_details(importer=importer, imported=imported)
        lines = sorted({detail["line_number"] for detail in details})
        return f"{importer} -> {imported} (l.{', l.'.join(map(str, lines))})"

    def render_broken_contract(self, check: ContractCheck) -> None:
        for breach in check.metadata["breaches"]:
            output.print_error(f"- {breach}", bold=False)
        output.new_line()


class OnlyImports(AllowList):
    """The modules import the standard library and what is allowed."""

    type_name: ClassVar[str] = "only_imports"

    modules: Any = fields.ListField(subfield=fields.StringField())
    allowed: Any = fields.ListField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        for importer in graph.modules:
            for pattern in self.modules:
                if package := package_matched(pattern, importer):
                    allowed = [package if name == "itself" else name for name in self.allowed]
                    for imported in graph.find_modules_directly_imported_by(importer):
                        if not (is_standard(imported) or any(package_matched(name, imported) for name in allowed)):
                            yield importer, imported


class Confined(AllowList):
    """Each library is imported where an arrow says so."""

    type_name: ClassVar[str] = "confined"

    allowed: Any = fields.ListField(subfield=fields.ImportExpressionField())

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        importers: dict[str, list[str]] = defaultdict(list)
        for arrow in self.allowed:
            importers[arrow.imported.expression].append(arrow.importer.expression)
        for library, allowed in importers.items():
            if library in graph.modules:
                for importer in graph.find_modules_that_directly_import(library):
                    if not any(package_matched(name, importer) for name in allowed):
                        yield importer, library


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
