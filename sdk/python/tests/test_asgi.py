"""The ASGI middleware with Starlette behind it and the real binary beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import servers
from conftest import People
from tollgate import AsyncClient
from tollgate.asgi import PUBLIC, Rule, TollgateMiddleware, principal_of

RULES: dict[str, Any] = {
    "GET /healthz": PUBLIC,
    "GET /orders/{id}": Rule("orders:read", resource="orders/{id}", context=lambda scope: {"order": scope["path_params"]["id"]}),
    "POST /orders/{id}": "orders:write",
    "GET /users/{id}": Rule(self_only=True, self_id="{id}"),
    "WEBSOCKET /feed": "orders:watch",
}


async def who(request: Request) -> Response:
    caller = principal_of(request.scope)
    return JSONResponse({"caller": caller and caller.username})


async def feed(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


def application(client: AsyncClient, rules: Any = RULES, **options: Any) -> TollgateMiddleware:
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        started.append("yes")
        yield
        await client.aclose()

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("".join(started) or "no")

    routes: list[Any] = [Route("/healthz", healthz), WebSocketRoute("/feed", feed)]
    for path in ("/orders/{id}", "/users/{id}", "/admin"):
        routes.append(Route(path, who, methods=["GET", "POST", "DELETE"]))
    return TollgateMiddleware(Starlette(routes=routes, lifespan=lifespan), client, rules, **options)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def test_requests(people: People) -> None:
    async with people.client() as client:
        app = application(client)
        async with httpx.AsyncClient(app=app, base_url="http://orders") as caller:

            async def status(method: str, path: str, credential: str = "") -> int:
                headers = bearer(credential) if credential else {}
                return (await caller.request(method, path, headers=headers)).status_code

            got = await caller.get("/orders/42", headers=bearer(people.alice))
            assert (got.status_code, got.json()) == (200, {"caller": "alice"})
            assert await status("HEAD", "/orders/42", people.alice) == 200
            assert await status("POST", "/orders/42", people.alice) == 403
            assert await status("GET", "/orders/42", people.carol) == 403
            assert await status("GET", "/orders/42", "garbage") == 401
            assert await status("GET", "/orders/42") == 401
            assert await status("GET", f"/users/{people.alice_id}", people.alice) == 200
            assert await status("GET", f"/users/{people.alice_id}", people.carol) == 403
            assert await status("GET", "/healthz") == 200
    denied = people.server.rest("GET", "/v1/audit/events?action=access.denied&resource=orders/42")["events"]
    assert {e["actor"]["username"] for e in denied if e["actor"]["username"]} == {"carol"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin"),
        ("DELETE", "/orders/42"),
        ("OPTIONS", "/orders/42"),
        ("GET", "/orders/42/"),
        ("GET", "/orders/"),
        ("GET", "/orders"),
        ("GET", "//orders/42"),
        ("GET", "/ORDERS/42"),
        ("GET", "/orders/%2e%2e"),
        ("GET", "/healthz/%2e%2e/admin"),
        ("GET", "/orders/4%2f2"),
        ("GET", "/orders/4%5c2"),
        ("get", "/orders/42"),
    ],
)
async def test_without_a_rule(people: People, method: str, path: str) -> None:
    async with people.client() as client:
        async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
            request = httpx.Request("GET", "http://orders" + path, headers=bearer(people.alice))
            request.method = method
            got = await caller.send(request)
    assert got.status_code == 403
    assert got.json()["details"][0]["debug"]["reason"] == "NO_GUARD"


async def test_two_credentials(people: People) -> None:
    async with people.client() as client:
        async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
            for headers in (
                [("Authorization", f"Bearer {people.alice}")] * 2,
                [("Authorization", "Basic YTpi"), ("authorization", f"Bearer {people.alice}")],
                [("Authorization", "Bearer")],
                [("Authorization", f"Bearer {people.alice}, {people.alice}")],
            ):
                got = await caller.get("/orders/42", headers=headers)
                assert got.status_code == 401
                assert got.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_rules_by_a_callable(people: People) -> None:
    async def rules(scope: Any) -> Any:
        return {"/healthz": PUBLIC, "/orders/1": "orders:read", "/orders/2": Rule("orders:write")}.get(scope["path"])

    async with people.client() as client:
        async with httpx.AsyncClient(app=application(client, rules), base_url="http://orders") as caller:
            for path, status in {"/healthz": 200, "/orders/1": 200, "/orders/2": 403, "/orders/3": 403}.items():
                assert (await caller.get(path, headers=bearer(people.alice))).status_code == status
        wrong = TollgateMiddleware(application(client), client, lambda scope: True)
        async with httpx.AsyncClient(app=wrong, base_url="http://orders") as caller:
            with pytest.raises(TypeError):
                await caller.get("/orders/1", headers=bearer(people.alice))


async def test_limits_in_headers(people: People) -> None:
    limit = {"name": "asgi", "subject": "SUBJECT_USER", "permission": "orders:read", "rate": 2, "period": "3600s"}
    people.server.rest("POST", "/v1/limits", limit)
    try:
        async with people.client() as client:
            async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
                got = [await caller.get("/orders/42", headers=bearer(people.alice)) for _ in range(3)]
        assert [g.status_code for g in got] == [200, 200, 429]
        assert got[0].headers["RateLimit"].startswith('"asgi";r=1;t=')
        assert got[0].headers["RateLimit-Policy"] == '"asgi";q=2'
        assert int(got[2].headers["Retry-After"]) > 0
    finally:
        people.server.rest("DELETE", "/v1/limits/asgi")


async def test_outage(people: People) -> None:
    for mode, status in {"deny": 503, "allow": 200}.items():
        async with AsyncClient(servers.unreachable(), api_key=people.service, on_unavailable=mode) as client:  # type: ignore[arg-type]
            async with httpx.AsyncClient(app=application(client), base_url="http://orders") as caller:
                got = await caller.get("/orders/42", headers=bearer(people.alice))
                assert got.status_code == status
                assert (await caller.get("/orders/42")).status_code == 503
    assert got.json() == {"caller": None}


def test_lifespan_and_websockets(people: People) -> None:
    with TestClient(application(people.client())) as caller:
        assert caller.get("/healthz").text == "yes"
        with caller.websocket_connect("/feed", headers=bearer(people.alice)) as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
        for path, credential in {"/feed": people.carol, "/other": people.alice}.items():
            with pytest.raises(WebSocketDisconnect) as refused, caller.websocket_connect(path, headers=bearer(credential)):
                pass
            assert refused.value.code == 1008


async def test_a_websocket_that_waits_is_told(people: People) -> None:
    """The application receives the end, and sends nothing more; test_uvicorn.py has what the peer sees."""
    token = people.server.login("alice")
    waiting = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        if sent:
            waiting.set()
            await asyncio.Event().wait()
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        assert await receive() == {"type": "websocket.disconnect", "code": 1008}
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "secret"})

    scope = {"type": "websocket", "path": "/feed", "headers": [(b"authorization", f"Bearer {token}".encode())]}
    async with people.client() as client:
        protected = TollgateMiddleware(app, client, RULES, recheck=0.2)
        running = asyncio.ensure_future(protected(scope, receive, send))
        await waiting.wait()
        people.server.rest("POST", "/v1/auth/logout", {}, token)
        await asyncio.wait_for(running, 20)
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.close"]


async def test_a_websocket_in_an_outage(people: People) -> None:
    """It goes on for a while, and not for good; a check that fails by itself ends it, too."""
    for failure in ({"status": 503}, {"status": 200, "body": {"allowed": True}}):
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "websocket.disconnect"

        async def never() -> Any:
            await asyncio.Event().wait()

        scope = {"type": "websocket", "path": "/feed", "headers": [(b"authorization", f"Bearer {people.alice}".encode())]}
        with servers.scripted(servers.Script(["forward", failure], people.server.url)) as script:
            async with AsyncClient(script.url, api_key=people.service, on_unavailable="allow") as client:
                await asyncio.wait_for(TollgateMiddleware(app, client, RULES, recheck=0.2)(scope, never, send), 20)
        assert [m["type"] for m in sent] == ["websocket.close"]
        assert len(script.requests) > 2


async def test_a_websocket_refused_with_a_response(people: People) -> None:
    """Servers with the extension for it answer as for HTTP; nothing is accepted before."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/feed",
        "headers": [(b"authorization", f"Bearer {people.carol}".encode())],
        "extensions": {"websocket.http.response": {}},
    }
    async with people.client() as client:
        await application(client)(scope, receive, send)
        assert [m["type"] for m in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert sent[0]["status"] == 403
        with pytest.raises(RuntimeError):
            await application(client)({"type": "webtransport"}, receive, send)
