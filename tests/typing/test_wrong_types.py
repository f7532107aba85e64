"""A converter or handler for the wrong event does not type-check."""

from pathlib import Path
from textwrap import dedent

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
DEFINITIONS = dedent(
    """
    from collections.abc import AsyncIterator
    from dataclasses import dataclass
    from typing import assert_type

    from contracts import IntegrationEvent
    from mediator import *

    class OpenedV1(IntegrationEvent):
        owner: str

    class ClosedV1(IntegrationEvent):
        owner: str

    @dataclass(frozen=True)
    class Opened(DomainEvent):
        owner: str

    @dataclass(frozen=True)
    class Closed(DomainEvent):
        owner: str

    @dataclass(frozen=True)
    class Open(Command[int]):
        owner: str

    @dataclass(frozen=True)
    class Owners(Query[list[str]]):
        pass

    @dataclass(frozen=True)
    class EachOwner(StreamQuery[str]):
        pass
    """
)

RIGHT = {
    "converter": """
        class Right(IntegrationEventConverter[Opened, OpenedV1]):
            def convert(self, event: Opened) -> OpenedV1:
                return OpenedV1(owner=event.owner)
    """,
    "asynchronous converter to none or several": """
        class Right(IntegrationEventConverter[Opened, OpenedV1]):
            async def convert(self, event: Opened) -> list[OpenedV1 | Outgoing[OpenedV1]] | None:
                return [OpenedV1(owner="a"), Outgoing(OpenedV1(owner="b"))]
    """,
    "handler of several events": """
        class Right(IntegrationEventHandler[OpenedV1 | ClosedV1]):
            async def handle(self, event: OpenedV1 | ClosedV1) -> ClosedV1 | None:
                return None
    """,
    "plain handler": """
        class Right(IntegrationEventHandler[OpenedV1]):
            def handle(self, event: OpenedV1) -> list[ClosedV1]:
                return []
    """,
    "handler of a base class": """
        class Right(DomainEventHandler[Opened]):
            async def handle(self, event: DomainEvent) -> None: ...
    """,
    "result with events": """
        class Right(CommandHandler[Open, int]):
            async def handle(self, command: Open) -> WithEvents[int]:
                return WithEvents(7, OpenedV1(owner="a"))
    """,
    "the mediator knows the results": """
        async def right(mediator: Mediator, blocking: BlockingMediator) -> None:
            assert_type(await mediator.send(Open("a")), int)
            assert_type(await mediator.send(Owners()), list[str])
            async for owner in mediator.stream(EachOwner()):
                assert_type(owner, str)
            assert_type(blocking.send(Open("a")), int)
    """,
}

WRONG = {
    "a converter from another event": (
        """
        class Wrong(IntegrationEventConverter[Opened, OpenedV1]):
            def convert(self, event: Closed) -> OpenedV1:
                return OpenedV1(owner=event.owner)
        """,
        "override",
    ),
    "a converter to another event": (
        """
        class Wrong(IntegrationEventConverter[Opened, OpenedV1]):
            def convert(self, event: Opened) -> ClosedV1:
                return ClosedV1(owner=event.owner)
        """,
        "override",
    ),
    "an outgoing of another event": (
        """
        class Wrong(IntegrationEventConverter[Opened, OpenedV1]):
            def convert(self, event: Opened) -> Outgoing[ClosedV1]:
                return Outgoing(ClosedV1(owner=event.owner))
        """,
        "override",
    ),
    "a converter from an integration event": (
        "class Wrong(IntegrationEventConverter[OpenedV1, ClosedV1]): ...",
        "type-var",
    ),
    "a converter to a domain event": ("class Wrong(IntegrationEventConverter[Opened, Closed]): ...", "type-var"),
    "a handler of another event": (
        """
        class Wrong(IntegrationEventHandler[OpenedV1]):
            async def handle(self, event: ClosedV1) -> None: ...
        """,
        "override",
    ),
    "a handler of some of its events": (
        """
        class Wrong(IntegrationEventHandler[OpenedV1 | ClosedV1]):
            async def handle(self, event: OpenedV1) -> None: ...
        """,
        "override",
    ),
    "a handler of a domain event as integration event": (
        "class Wrong(IntegrationEventHandler[Opened]): ...",
        "type-var",
    ),
    "a handler that returns something else than events": (
        """
        class Wrong(IntegrationEventHandler[OpenedV1]):
            async def handle(self, event: OpenedV1) -> int:
                return 1
        """,
        "override",
    ),
    "a domain event handler of another event": (
        """
        class Wrong(DomainEventHandler[Opened]):
            async def handle(self, event: Closed) -> None: ...
        """,
        "override",
    ),
    "a domain event handler of an integration event": ("class Wrong(DomainEventHandler[OpenedV1]): ...", "type-var"),
    "a command handler of another command": (
        """
        class Wrong(CommandHandler[Open, int]):
            async def handle(self, command: Owners) -> int:
                return 1
        """,
        "override",
    ),
    "a command handler with another result": (
        """
        class Wrong(CommandHandler[Open, int]):
            async def handle(self, command: Open) -> str:
                return ""
        """,
        "override",
    ),
    "a command handler of a query": ("class Wrong(CommandHandler[Owners, list[str]]): ...", "type-var"),
    "a stream handler that gives something else": (
        """
        class Wrong(StreamQueryHandler[EachOwner, str]):
            async def handle(self, query: EachOwner) -> AsyncIterator[int]:
                yield 1
        """,
        "override",
    ),
    "a validator of another command": (
        """
        class Wrong(Validator[Open]):
            def validate(self, command: Owners) -> list[str]:
                return []
        """,
        "override",
    ),
    "a result used as something else": (
        """
        async def wrong(mediator: Mediator) -> str:
            return await mediator.send(Open("a"))
        """,
        "arg-type",
    ),
    "sending an event": (
        """
        async def wrong(mediator: Mediator) -> None:
            await mediator.send(Opened("a"))
        """,
        "call-overload",
    ),
    "publishing a domain event": (
        """
        def wrong(publisher: IntegrationEventPublisher) -> None:
            publisher.publish(Opened("a"))
        """,
        "arg-type",
    ),
    "recording an integration event": (
        """
        def wrong(aggregate: AggregateRoot) -> None:
            aggregate.record_event(OpenedV1(owner="a"))
        """,
        "arg-type",
    ),
    "ordering by another word": (
        """
        class Wrong(IntegrationEventHandler[OpenedV1]):
            ordering = "partition"
            async def handle(self, event: OpenedV1) -> None: ...
        """,
        "assignment",
    ),
    "a timeout in seconds": (
        """
        class Wrong(IntegrationEventHandler[OpenedV1]):
            timeout = 30
            async def handle(self, event: OpenedV1) -> None: ...
        """,
        "assignment",
    ),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors of every snippet: all are checked in one run, because the run costs the time and not the snippets."""
    folder = tmp_path_factory.mktemp("snippets")
    snippets = {**RIGHT, **{name: code for name, (code, _) in WRONG.items()}}
    files = {}
    for number, (name, code) in enumerate(snippets.items()):
        file = folder / f"snippet_{number}.py"
        file.write_text(DEFINITIONS + dedent(code))
        files[file.name] = name
    output, problems, _ = api.run(
        [
            f"--config-file={ROOT / 'pyproject.toml'}",
            f"--cache-dir={folder / 'cache'}",
            "--no-error-summary",
            "--hide-error-context",
            *(str(folder / file) for file in files),
        ]
    )
    assert not problems, problems
    found: dict[str, list[str]] = {name: [] for name in snippets}
    for line in output.splitlines():
        if ": error: " in line:
            found[files[Path(line.partition(":")[0]).name]].append(line)
    return found


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_type_checks(errors: dict[str, list[str]], name: str) -> None:
    assert errors[name] == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_does_not_type_check(errors: dict[str, list[str]], name: str) -> None:
    _, code = WRONG[name]

    (error,) = errors[name]
    assert error.endswith(f"[{code}]")
