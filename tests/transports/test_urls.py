import pytest

from mediator.errors import SettingsError
from mediator.transports import MemoryTransport, transport_for


def test_the_scheme_names_the_transport() -> None:
    assert isinstance(transport_for("memory://"), MemoryTransport)


@pytest.mark.parametrize("url", ["", "memory", "kafka://user:secret@broker", "sql://"])
def test_another_scheme_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(SettingsError, match="memory://") as refused:
        transport_for(url)
    assert "secret" not in str(refused.value)
