"""The arguments of an application, checked before anything else happens."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from mediator.application import HandlingMiddleware, PipelineBehavior, PublishingMiddleware
from mediator.errors import SettingsError
from mediator.hosting.module import Module
from mediator.hosting.settings import ROLES, MediatorSettings

__all__ = ["check_arguments", "check_names", "check_roles", "check_subscriptions", "mapped_environment"]

_LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def check_names(**names: str) -> None:
    """Raise SettingsError for a name that cannot be part of a group's or a row's."""
    for setting, value in names.items():
        if not _NAME.fullmatch(value) or len(value) > _LONGEST_NAME:
            raise SettingsError(setting, value, "use lower-case words joined by dashes, at most 40 characters")


def check_arguments(
    modules: Any, contracts: Any, behaviors: Any, middleware: Any, schema: Any, settings: Any, on_dead_letter: Any
) -> None:
    """Raise SettingsError for what type checkers would find; not everybody has one."""
    if not modules:
        raise SettingsError("modules", list(modules), "give at least one Module")
    for module in modules:
        if not isinstance(module, Module):
            raise SettingsError("modules", module, f"use Module({module!r}, package=...)")
    if isinstance(contracts, str):
        raise SettingsError("contracts", contracts, f"use a list: [{contracts!r}]")
    _check_surroundings(behaviors, middleware)
    if schema not in ("auto", "create", "verify", "ignore"):
        raise SettingsError("schema", schema, 'use "auto", "create", "verify" or "ignore"')
    if settings is not None and not isinstance(settings, MediatorSettings):
        raise SettingsError("settings", settings, "use MediatorSettings(...)")
    if on_dead_letter is not None and not callable(on_dead_letter):
        raise SettingsError("on_dead_letter", on_dead_letter, "use a function of a DeadLetter")


def _check_surroundings(behaviors: Any, middleware: Any) -> None:
    for behavior in behaviors:
        if not (isinstance(behavior, type) and issubclass(behavior, PipelineBehavior)):
            raise SettingsError("behaviors", behavior, "list classes, subclasses of PipelineBehavior")
    for one in middleware:
        kind = one if isinstance(one, type) else type(one)
        if not issubclass(kind, (PublishingMiddleware, HandlingMiddleware)):
            raise SettingsError("middleware", one, "list PublishingMiddleware and HandlingMiddleware, or such objects")


def check_roles(roles: Any) -> None:
    """Raise SettingsError unless they are some of those there are."""
    chosen = None if isinstance(roles, str) or not isinstance(roles, Collection) else list(roles)
    if not chosen or not all(role in ROLES for role in chosen):
        raise SettingsError("roles", roles, f"list one or more of {', '.join(ROLES)}")


def check_subscriptions(subscriptions: Any) -> None:
    """Raise SettingsError unless they are topics by subscriber id."""
    for name, topics in (subscriptions or {}).items():
        if isinstance(topics, str) or not all(isinstance(topic, str) for topic in topics):
            raise SettingsError(f"subscriptions[{name!r}]", topics, "list topics, such as ('dev.ordering.#',)")


def mapped_environment(environment: str, environments: Mapping[str, str]) -> str:
    """The environment's name in topics, by explicit mapping, so that no two share one."""
    names: dict[str, str] = {}
    for long, short in environments.items():
        first = names.setdefault(short, long)
        if first != long:
            raise SettingsError("environments", dict(environments), f"{first!r} and {long!r} both become {short!r}")
    if environment not in environments and environment in names:
        raise SettingsError(
            "environment", environment, f"that is the short name of {names[environment]!r}: use the long one"
        )
    mapped = environments.get(environment, environment)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mapped):
        raise SettingsError(
            "environment",
            environment,
            f'use lower-case letters, digits and dashes, or map it: environments={{{environment!r}: "dev"}}',
        )
    return mapped
