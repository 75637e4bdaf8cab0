"""What callers are answered is what the middleware in Go answers them: sdk/testdata/refusals.json."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

import servers
from servers import REPOSITORY, Script
from tollgate import AsyncClient
from tollgate.asgi import Rule, TollgateMiddleware
from tollgate.fastapi import Gate

CASES = json.loads((REPOSITORY / "sdk" / "testdata" / "refusals.json").read_text())


async def unprotected(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the request got to the application")


def through_asgi(client: AsyncClient, rule: dict[str, Any]) -> Any:
    return TollgateMiddleware(unprotected, client, {"GET /orders/{id}": Rule(**rule)})


def through_fastapi(client: AsyncClient, rule: dict[str, Any]) -> Any:
    gate, app = Gate(client), FastAPI()
    gate.install(app)

    @app.get("/orders/{id}", dependencies=[Depends(gate.require(**rule))])
    async def order(id: str) -> None:
        raise AssertionError("the request got to the application")

    return app


@pytest.mark.parametrize("protect", [through_asgi, through_fastapi])
@pytest.mark.parametrize("case", CASES, ids=lambda c: (c["decision"] or {}).get("reason", "UNAVAILABLE"))
async def test_refusal(case: dict[str, Any], protect: Any) -> None:
    rule = {"any_of": case["anyOf"]} if "anyOf" in case else {"permission": "orders:read"}
    answer = {"status": 503} if case["decision"] is None else {"status": 200, "body": case["decision"]}
    with servers.scripted(Script([answer])) as script:
        async with AsyncClient(script.url, api_key="tg_service") as client:
            app = protect(client, rule)
            async with httpx.AsyncClient(app=app, base_url="http://orders") as caller:
                got = await caller.get("/orders/42", headers={"Authorization": "Bearer alice.token"})
    assert got.status_code == case["status"]
    assert got.json() == case["body"]
    headers = {k.title(): v for k, v in got.headers.items() if k != "content-length"}
    assert headers == case["header"]
