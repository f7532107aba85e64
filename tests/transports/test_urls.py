import pytest

from mediator.errors import SettingsError
from mediator.storage.database import Database
from mediator.transports import MemoryTransport, SqlTransport, transport_for


def test_the_scheme_names_the_transport() -> None:
    assert isinstance(transport_for("memory://"), MemoryTransport)


@pytest.mark.parametrize("url", ["", "memory", "zeromq://user:secret@broker", "sq://"])
def test_another_scheme_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(SettingsError, match="memory://") as refused:
        transport_for(url)
    assert "secret" not in str(refused.value)


def test_sql_means_the_database_of_the_application() -> None:
    database = Database("sqlite+aiosqlite://")

    transport = transport_for("sql://?lanes=8", database)

    assert isinstance(transport, SqlTransport)
    assert (transport.database, transport.is_own, transport.capabilities.lanes) == (database, False, 8)


def test_sql_with_a_database_means_that_one() -> None:
    transport = transport_for(
        "sql+postgresql+asyncpg://me:secret@host/events?ssl=require&prefix=bus_&schema=bus&lanes=3"
    )

    assert isinstance(transport, SqlTransport)
    assert transport.is_own
    assert transport.capabilities.lanes == 3
    assert transport.database.name == "postgresql+asyncpg://me:***@host/events?ssl=require"
    assert transport.database.tables.deliveries.fullname == "bus.bus_deliveries"
    assert "secret" not in repr(transport)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sql://", "there is no application"),
        ("sql://me:secret@host/events", "sql+postgresql+asyncpg://"),
        ("sql:///shop.db", "sql+postgresql+asyncpg://"),
        ("sql://?prefix=bus_", "table_prefix"),
        ("sql://?lane=3", "lane=…"),
        ("sql://?lanes=0", "lanes is a number from 1 to 64"),
        ("sql://?lanes=65", "lanes is a number from 1 to 64"),
        ("sql://?lanes=many", "lanes is a number from 1 to 64"),
        ("sql://?lanes=", "lanes is a number from 1 to 64"),
        ("sql+sqlite+aiosqlite:///x.db?lanes=1&lanes=2", "lanes is a number from 1 to 64"),
        ("sql+sqlite+aiosqlite:///x.db?lane=1", "lane is none of"),
        ("sql+postgresql://me:secret@host/events", "postgresql+asyncpg"),
        ("sql+oracle://me:secret@host/events", "this version supports"),
        ("sql+postgresql+asyncpg://me:sec@ret@host/events", "%40"),
        ("sql+postgresql+asyncpg://me:secret@host/events?prefix=Bus", "lower-case"),
        ("sql+", "sql://"),
        ("sql+:secret", "use a URL such as"),
    ],
)
def test_what_is_wrong_with_an_address_of_a_database_is_said_without_telling_secrets(url: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        transport_for(url)

    assert refused.value.setting == "transport"
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sec@ret" not in str(refused.value)
