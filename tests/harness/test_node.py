"""A machine without Node.js skips what needs it, and the run says how many tests that were."""

import pytest

from tests.support.databases import Unreachable
from tests.support.node import asyncapi_parser_says


def test_missing_node_is_a_missing_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(Unreachable, match=r"install Node\.js 18 or newer") as refused:
        asyncapi_parser_says([])

    assert refused.value.service == "node"
