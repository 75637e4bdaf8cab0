"""The dependencies with FastAPI itself and the real binary."""

from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

import servers
from conftest import People
from test_asgi import bearer
from tollgate import AsyncClient, Principal
from tollgate.fastapi import Gate


def application(client: AsyncClient, install: bool = True) -> FastAPI:
    gate, app = Gate(client, trusted_proxies=["127.0.0.1"]), FastAPI()
    app.add_event_handler("shutdown", client.aclose)
    if install:
        gate.install(app)

    async def tenant(connection: HTTPConnection) -> dict[str, str]:
        return {"tenant": connection.headers.get("X-Tenant", "")}

    read = gate.require("orders:read", resource="orders/{id}", context=tenant)

    @app.get("/orders/{id}")
    async def order(id: int, caller: Principal = Depends(read)) -> dict[str, Any]:
        return {"id": id, "caller": caller.username}

    @app.post("/orders", dependencies=[Depends(gate.require(any_of=["orders:write", "orders:admin"]))])
    async def create() -> None: ...

    @app.delete("/orders", dependencies=[Depends(gate.require(all_of=["orders:read", "orders:watch"]))])
    async def clear() -> None: ...

    @app.get("/me")
    async def me(caller: Principal = Depends(gate.require(authenticated=True))) -> str:
        return caller.username

    @app.websocket("/feed")
    async def feed(socket: WebSocket, caller: Principal = Depends(gate.require("orders:watch"))) -> None:
        await socket.accept()
        await socket.send_text(caller.username)

    return app


async def test_routes(people: People) -> None:
    limit = {"name": "tenants", "subject": "SUBJECT_CUSTOM", "contextKey": "tenant", "permission": "orders:read"}
    people.server.rest("POST", "/v1/limits", {**limit, "rate": 1, "period": "3600s"})
    try:
        async with people.client() as client:
            async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
                headers = {**bearer(people.alice), "X-Tenant": "acme", "X-Forwarded-For": "6.6.6.6, 203.0.113.9"}
                got = await caller.get("/orders/42", headers=headers)
                assert (got.status_code, got.json()) == (200, {"id": 42, "caller": "alice"})
                assert got.headers["RateLimit-Policy"] == '"tenants";q=1'
                got = await caller.get("/orders/43", headers=headers)
                assert got.status_code == 429 and int(got.headers["Retry-After"]) > 0
                assert (await caller.post("/orders", headers=headers)).status_code == 403
                assert (await caller.delete("/orders", headers=headers)).status_code == 200
                assert (await caller.get("/me", headers=bearer(people.carol))).json() == "carol"
                got = await caller.get("/orders/x", headers={"X-Tenant": "other"})
                assert got.status_code == 401  # before what is wrong with the request
    finally:
        people.server.rest("DELETE", "/v1/limits/tenants")
    [denied] = people.server.rest("GET", "/v1/audit/events?action=access.denied&resource=orders/43")["events"]
    assert (denied["ip"], denied["reason"], denied["actor"]["username"]) == ("203.0.113.9", "limited", "alice")


async def test_without_install(people: People) -> None:
    async with people.client() as client:
        async with httpx.AsyncClient(app=application(client, install=False), base_url="http://orders") as caller:
            got = await caller.get("/orders/42")
    assert got.status_code == 401
    assert got.headers["WWW-Authenticate"] == "Bearer"
    assert got.json()["detail"]["code"] == "unauthenticated"


async def test_outage(people: People, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncClient(servers.unreachable(), api_key=people.service) as client:
        async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
            got = await caller.get("/orders/42", headers=bearer(people.alice))
    assert (got.status_code, got.headers["Retry-After"]) == (503, "1")
    assert "could not be decided" in caplog.text
    assert people.alice not in caplog.text and people.service not in caplog.text


def test_websockets(people: People) -> None:
    with TestClient(application(people.client())) as caller:
        with caller.websocket_connect("/feed", headers=bearer(people.alice)) as socket:
            assert socket.receive_text() == "alice"
        with pytest.raises(WebSocketDisconnect) as refused:
            with caller.websocket_connect("/feed", headers=bearer(people.carol)):
                pass
        assert refused.value.code == 1008


@pytest.mark.parametrize(
    "fields", [{}, {"permission": "a:b", "any_of": ["a:c"]}, {"any_of": "a:b"}, {"self_only": True}]
)
def test_a_rule_that_cannot_be(people: People, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Gate(people.client()).require(**fields)
