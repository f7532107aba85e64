"""A small project on disk, and the command line run in it as a user would."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

__all__ = ["Answer", "Project"]

_ROOT = Path(__file__).resolve().parents[2]
_CONTRACTS = '''
    from typing import Annotated
    from uuid import UUID

    from contracts import IntegrationEvent, PartitionKey, event_topic


    @event_topic("orders", domain="ordering", owner="team-ordering")
    class OrderPlacedV1(IntegrationEvent):
        """A customer placed an order."""

        order_id: Annotated[UUID, PartitionKey()]
        note: str = ""
'''
_HANDLERS = """
    from mediator import IntegrationEventHandler
    from shop_contracts import OrderPlacedV1


    class ReserveStock(IntegrationEventHandler[OrderPlacedV1]):
        async def handle(self, event: OrderPlacedV1) -> None: ...
"""
# Nobody answers there: whoever opens the database or the broker fails.
_WIRING = """
    from mediator import MediatorApp, Module

    def make() -> MediatorApp:
        return MediatorApp(
            "shop",
            modules=[Module("stock", package="stock")],
            contracts=["shop_contracts"],
            database="postgresql+asyncpg://127.0.0.1:1/nobody",
            transport="redis://127.0.0.1:1",
            environment="dev",
        )

    app = make()
"""


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        """What it said as JSON."""
        return json.loads(self.out)


class Project:
    """A contracts package, a module that reads it, and the application."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("shop_contracts/__init__.py", _CONTRACTS)
        self.write("stock/__init__.py", "")
        self.write("stock/handlers.py", _HANDLERS)
        self.write("wiring.py", _WIRING)
        self.configure('app = "wiring:app"\ncontracts = ["shop_contracts"]')

    @property
    def baseline(self) -> Path:
        return self.folder / "shop_contracts" / "baseline"

    def configure(self, settings: str) -> None:
        """Write the table of `pyproject.toml`."""
        self.write("pyproject.toml", f"[tool.mediator]\n{settings}\n")

    def write(self, path: str, text: str) -> None:
        """Write a file, less the indentation."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(dedent(text).lstrip(), encoding="utf-8")

    def change(self, path: str, old: str, new: str) -> None:
        """Change what stands once in a file."""
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (self.folder / path).write_text(text.replace(old, new), encoding="utf-8")

    def run(self, *arguments: str, folder: Path | None = None) -> Answer:
        """Run `mediator` with these arguments."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mediator.cli", *arguments],
            cwd=folder or self.folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Answer(done.returncode, done.stdout, done.stderr)
