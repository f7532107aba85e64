"""The mediator: hands a command or query to its one handler, inside a unit of work.

    behaviours with inside_transaction = False → unit of work → the other behaviours → handler

A message that is sent while a unit of work is open joins it: no second transaction, one bound on domain events, one
commit. The chain of behaviours is put together once per message type.
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from mediator.application import CommandHandler, MessageContext, PipelineBehavior, WithEvents
from mediator.application.behaviors import Proceed
from mediator.clock import Runtime
from mediator.errors import EventRefusedError, HandlerNotFoundError, NotRunningError, UsageError
from mediator.messaging.handling import Build
from mediator.messaging.invocation import Invoke, compile_invocation
from mediator.messaging.lineage import Lineage, current_lineage, in_lineage
from mediator.messaging.registry import HandlerEntry, Registry
from mediator.publishing.unit_of_work import SqlUnitOfWork, join_unit_of_work
from mediator.storage.database import Database

__all__ = ["OpenModule", "UnitOfWorkMediator", "new_lineage"]

_LONGEST_CORRELATION_ID = 200
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class OpenModule(Protocol):
    """Opens a unit of work on the database of a module."""

    def __call__(
        self, context: MessageContext, lineage: Lineage, *, read_only: bool = False, ambient: bool = True
    ) -> SqlUnitOfWork: ...


@dataclass(frozen=True, slots=True)
class _Route:
    module: str
    build: Build
    invoke: Invoke
    read_only: bool
    locks: bool


class UnitOfWorkMediator:
    """Sends messages to the handlers of a registry."""

    def __init__(
        self,
        registry: Registry,
        plans: Callable[[type], Build],
        behaviors: Sequence[type[PipelineBehavior]],
        open_module: OpenModule,
        database_of: Callable[[str], Database],
        runtime: Runtime,
        is_running: Callable[[], bool],
        check_role: Callable[[str], None],
    ) -> None:
        self._open_module, self._database_of = open_module, database_of
        self._runtime = runtime
        self._is_running, self._check_role = is_running, check_role
        self._routes = {
            **_routes(registry.commands, plans, read_only=False),
            **_routes(registry.queries, plans, read_only=True),
        }
        self._streams = {
            query: (entry.module, plans(entry.handler_class), entry.handler_class)
            for query, entry in registry.streams.items()
        }
        self._outside = [plans(behavior)(None) for behavior in behaviors if not behavior.inside_transaction]
        self._inside = [plans(behavior) for behavior in behaviors if behavior.inside_transaction]

    async def send(self, message: Any, *, correlation_id: str | None = None, traceparent: str | None = None) -> Any:
        """Give the result of the message's handler; what it changed is committed when this returns."""
        if not self._is_running():
            raise NotRunningError("send()")
        route = self._routes.get(type(message))
        if route is None:
            raise HandlerNotFoundError(message, "CommandHandler or QueryHandler")
        joined = join_unit_of_work(type(message).__name__, route.module, self._database_of(route.module))
        if joined is not None:
            return await self._through(self._outside, message, lambda: self._nested(route, message, joined))
        self._check_role(type(message).__name__)
        lineage = new_lineage(self._runtime, type(message).__name__, correlation_id, traceparent)

        async def in_unit_of_work() -> Any:
            context = _context(message, route.module, lineage)
            async with self._open_module(context, lineage, read_only=route.read_only) as uow:
                return await self._handle(route, message, uow)

        with in_lineage(lineage):
            return await self._through(self._outside, message, in_unit_of_work)

    async def stream(self, query: Any, *, correlation_id: str | None = None) -> AsyncGenerator[Any, None]:
        """The answers of a streaming query, read in one transaction that cannot write."""
        if not self._is_running():
            raise NotRunningError("stream()")
        try:
            module, build, handler_class = self._streams[type(query)]
        except KeyError:
            raise HandlerNotFoundError(query, "StreamQueryHandler") from None
        joined = join_unit_of_work(type(query).__name__, module, self._database_of(module))
        if joined is not None:
            async with aclosing(handler_class.handle(build(joined), query)) as answers:
                async for answer in answers:
                    yield answer
            return
        self._check_role(type(query).__name__)
        lineage = new_lineage(self._runtime, type(query).__name__, correlation_id)
        context = _context(query, module, lineage)
        async with (
            self._open_module(context, lineage, read_only=True, ambient=False) as uow,
            # Closed first: what the handler still holds of the session goes before the session.
            aclosing(handler_class.handle(build(uow), query)) as answers,
        ):
            async for answer in answers:
                yield answer

    async def _nested(self, route: _Route, message: Any, uow: SqlUnitOfWork) -> Any:
        try:
            return await self._handle(route, message, uow)
        except BaseException as error:
            if not route.read_only:
                uow.doom(type(message).__name__, error)
            raise

    async def _handle(self, route: _Route, message: Any, uow: SqlUnitOfWork) -> Any:
        async def call() -> Any:
            handler = route.build(uow)
            if route.locks:
                await uow.lock(*_keys(handler, message), timeout=handler.lock_timeout)
            result = await route.invoke(handler, message, uow)
            if not isinstance(result, WithEvents):
                return result
            uow.publish(*result.events)
            return result.result

        return (
            await self._through([build(uow) for build in self._inside], message, call) if self._inside else await call()
        )

    async def _through(self, behaviors: Sequence[PipelineBehavior], message: Any, end: Proceed) -> Any:
        proceed = end
        for behavior in reversed(behaviors):
            proceed = _around(behavior, message, proceed)
        return await proceed()


def new_lineage(
    runtime: Runtime, cause: str, correlation_id: str | None = None, traceparent: str | None = None
) -> Lineage:
    """The lineage of something that begins here, or goes on with what is bound already."""
    if correlation_id is not None and not (
        0 < len(correlation_id) <= _LONGEST_CORRELATION_ID and correlation_id.isprintable()
    ):
        what, fix = (
            "its correlation id is empty, too long or not printable",
            f"Use 1 to {_LONGEST_CORRELATION_ID} characters",
        )
        raise EventRefusedError(cause, what, fix)
    if traceparent is not None and not _TRACEPARENT.fullmatch(traceparent):
        raise EventRefusedError(
            cause, f"traceparent {traceparent[:80]!r}", "Use the W3C form: 00-<32 hex>-<16 hex>-<2 hex>"
        )
    outer, identity = current_lineage(), runtime.new_id()
    if outer is None:
        return Lineage(correlation_id or str(identity), identity, cause, None, traceparent)
    correlation_id, traceparent = correlation_id or outer.correlation_id, traceparent or outer.traceparent
    return Lineage(correlation_id, identity, cause, str(outer.message_id), traceparent)


def _routes(
    entries: Mapping[type[Any], HandlerEntry], plans: Callable[[type], Build], *, read_only: bool
) -> dict[type, _Route]:
    return {
        message_type: _Route(
            entry.module,
            plans(entry.handler_class),
            compile_invocation(entry.handler_class),
            read_only,
            locks=not read_only and entry.handler_class.lock_keys is not CommandHandler.lock_keys,
        )
        for message_type, entry in entries.items()
    }


def _context(message: object, module: str, lineage: Lineage) -> MessageContext:
    return MessageContext(
        message_id=lineage.message_id,
        message_type=type(message).__name__,
        correlation_id=lineage.correlation_id,
        causation_id=lineage.causation_id,
        module=module,
        traceparent=lineage.traceparent,
    )


def _keys(handler: CommandHandler[Any, Any], command: Any) -> Iterable[str]:
    keys: object = handler.lock_keys(command)
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise UsageError(f"{type(handler).__name__}.lock_keys returned {keys!r}: return a list of texts")
    return keys


def _around(behavior: PipelineBehavior, message: Any, proceed: Proceed) -> Proceed:
    return lambda: behavior.handle(message, proceed)
