"""The URL of a server's database, past the object that is connected to it."""

from __future__ import annotations

import pytest


@pytest.fixture
def server_url(server_db: object, request: pytest.FixtureRequest, databases: dict[str, str]) -> str:
    return databases[request.node.callspec.params["server_db"]]
