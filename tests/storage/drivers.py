"""Where a storage test runs: on every database, on every driver as well, or on those that the test is about."""

import pytest

from tests.support.databases import every_database

__all__ = ["EVERY_DRIVER", "ON_MYSQL", "ON_POSTGRESQL", "ON_SERVERS", "ON_SQLITE"]

_POSTGRESQL = ("postgresql", "psycopg")
_MYSQL = tuple(name for name in every_database() if name in {"mariadb", "mysql"})

EVERY_DRIVER = pytest.mark.databases("sqlite", *_POSTGRESQL, *_MYSQL)
"""For statements, whose results drivers report in ways of their own."""
ON_SQLITE = pytest.mark.databases("sqlite")
ON_SERVERS = pytest.mark.databases(*_POSTGRESQL, *_MYSQL)
ON_POSTGRESQL = pytest.mark.databases(*_POSTGRESQL)
ON_MYSQL = pytest.mark.databases(*_MYSQL)
