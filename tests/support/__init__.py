"""What tests share: applications made of classes, a small domain, a database of their own."""

from tests.support.apps import AppFactory, module_of, quick_settings
from tests.support.domain import Account, Effect, create_tables, effects

__all__ = ["Account", "AppFactory", "Effect", "create_tables", "effects", "module_of", "quick_settings"]
