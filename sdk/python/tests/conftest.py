from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import servers
from servers import Tollgate
from tollgate import AsyncClient


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return servers.binary(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session", autouse=True)
def connections() -> Iterator[None]:
    yield
    servers.HTTP.close()


@pytest.fixture(scope="session")
def tollgate(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tollgate]:
    with servers.tollgate(program, tmp_path_factory.mktemp("tollgate")) as server:
        yield server


@dataclass
class People:
    """Credentials at the shared server: the service's own key, and those of callers."""

    server: Tollgate
    service: str
    alice: str  # holds orders:read
    alice_id: str
    carol: str  # holds nothing

    def client(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.server.url, api_key=self.service, **options)


@pytest.fixture(scope="session")
def people(tollgate: Tollgate) -> People:
    tollgate.rest("POST", "/v1/roles", {"name": "reader", "permissions": ["orders:read", "orders:watch"]})
    permissions = ["tollgate:authorize", "tollgate:verify", "tollgate:limits:check", "tollgate:audit:record"]
    tollgate.rest("POST", "/v1/roles", {"name": "sdk", "permissions": permissions})

    def user(**fields: Any) -> str:
        return str(tollgate.rest("POST", "/v1/users", fields)["user"]["id"])

    alice = user(username="alice", password=servers.PASSWORD, roles=["reader"])
    user(username="carol", password=servers.PASSWORD)
    service = user(username="orders", kind="USER_KIND_SERVICE", roles=["sdk"])
    key = tollgate.rest("POST", "/v1/api-keys", {"userId": service, "name": "orders"})["secret"]
    return People(tollgate, key, tollgate.login("alice"), alice, tollgate.login("carol"))
