"""Protects any ASGI application: what has no rule is refused before it gets there.

::

    app = TollgateMiddleware(
        app,
        AsyncClient("https://tollgate.internal", api_key=key),
        {
            "GET /healthz": PUBLIC,
            "GET /orders/{id}": Rule("orders:read", resource="orders/{id}"),
            "POST /orders": "orders:write",
            "WEBSOCKET /feed": "orders:watch",
        },
    )
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from tollgate import _refusals
from tollgate._connection import Proxies, Scope
from tollgate._paths import Found, Given, Paths, rule_of
from tollgate._refusals import Answer
from tollgate._websocket import Watched
from tollgate.aio import AsyncClient
from tollgate.errors import TollgateError
from tollgate.rules import PUBLIC, Public, Rule
from tollgate.types import AuthorizeRequest, Decision, Principal

__all__ = ["PUBLIC", "Rule", "TollgateMiddleware", "decision_of", "principal_of"]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

log = logging.getLogger("tollgate")

KEY = "tollgate.decision"  # in the scope


def decision_of(scope: Scope) -> Decision | None:
    """The decision about a request behind the middleware; None for one that is public."""
    found = scope.get(KEY)
    return found if isinstance(found, Decision) else None


def principal_of(scope: Scope) -> Principal | None:
    """The caller behind the middleware; None for a request that is public or that nobody decided about."""
    decision = decision_of(scope)
    return decision.principal if decision else None


class TollgateMiddleware:
    """ASGI middleware. Make it the outermost, so that the others do no work for who is refused.

    ``rules`` maps methods and paths to permissions or :class:`tollgate.rules.Rule`; or it is
    a callable, maybe asynchronous, that returns one of these for a scope, and None to refuse.

    The answers are 401, 403, 429 and 503, as the other SDKs give them. A WebSocket is refused
    before it is accepted, and, within ``recheck`` seconds after its caller may no longer have
    it, or Tollgate did not decide for so long, closed with the code 1008.

    ``trusted_proxies`` are the addresses or CIDRs of proxies whose X-Forwarded-For is
    believed: leave it empty when the server rewrites the peer's address by itself.
    """

    def __init__(
        self,
        app: App,
        client: AsyncClient,
        rules: Mapping[str, Given] | Callable[[Scope], Any],
        *,
        trusted_proxies: Iterable[str] = (),
        recheck: float = 30.0,
    ) -> None:
        if not recheck > 0:
            raise ValueError("tollgate: recheck must be longer than zero")
        self._app, self._client, self._recheck = app, client, recheck
        self._proxies = Proxies(trusted_proxies)
        self._rules: Callable[[Scope], Any] | None = None
        self._paths = Paths({})
        if isinstance(rules, Mapping):
            self._paths = Paths(rules)
        else:
            self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind in ("http", "websocket"):
            await self._protect(scope, receive, send)
        else:
            raise RuntimeError(f"tollgate: nothing says what a connection of the type {kind!r} needs")

    async def _protect(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        rule, parameters = await self._find(method, scope)
        if isinstance(rule, Public):
            await self._app({**scope, KEY: None}, receive, send)
            return
        if rule is None:
            await _refuse(scope, receive, send, _refusals.without_rule(f"{method} {scope['path']}"))
            return
        request = await rule.request(scope, self._proxies, {**scope, "path_params": parameters}, parameters)
        decision, answer = await decide(self._client, request)
        if answer is not None:
            await _refuse(scope, receive, send, answer)
            return
        scope = {**scope, KEY: decision}
        headers = _refusals.raw(_refusals.limit_headers(decision.limits))
        if scope["type"] == "websocket":
            await Watched(self._client, request, self._recheck, receive, send, headers).run(self._app, scope)
        else:
            await self._app(scope, receive, _with_headers(send, headers, "http.response.start"))

    async def _find(self, method: str, scope: Scope) -> tuple[Found | None, Mapping[str, Any]]:
        if self._rules is None:
            return self._paths.find(method, scope["path"]) or (None, {})
        given = self._rules(scope)
        rule = rule_of(await given if inspect.isawaitable(given) else given)
        if not (rule is None or isinstance(rule, Rule | Public)):
            raise TypeError("tollgate: rules must return a permission, a Rule, PUBLIC or None")
        return rule, scope.get("path_params", {})


async def decide(client: AsyncClient, request: AuthorizeRequest) -> tuple[Decision, Answer | None]:
    """Returns the decision about a request, and the answer to its caller when it is refused."""
    try:
        decision = await client.decide(request)
    except TollgateError as error:
        log.error("a call was refused because it could not be decided: %s", error)
        return Decision(), _refusals.unavailable(error.retry_after)
    return decision, None if decision.allowed else _refusals.refusal(decision, request.named())


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]], start: str) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == start and headers:
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    prefix = "http"
    if scope["type"] == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})  # servers answer 403
            return
        prefix = "websocket.http"
    await send({"type": f"{prefix}.response.start", "status": answer.status, "headers": answer.raw_headers()})
    body = b"" if scope.get("method") == "HEAD" else answer.content()
    await send({"type": f"{prefix}.response.body", "body": body})
