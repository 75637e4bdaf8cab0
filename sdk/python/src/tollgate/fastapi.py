"""Protects the routes of a FastAPI application.

::

    gate = Gate(AsyncClient("https://tollgate.internal", api_key=key))
    app = FastAPI()
    gate.install(app)

    @app.get("/orders/{id}")
    async def order(id: str, caller: Principal = Depends(gate.require("orders:read", resource="orders/{id}"))):
        ...

A route without a dependency is public. :mod:`tollgate.asgi` refuses what has no rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection

from tollgate import _refusals
from tollgate._connection import Proxies
from tollgate._refusals import Answer
from tollgate.aio import AsyncClient
from tollgate.asgi import decide
from tollgate.rules import Rule
from tollgate.types import OnUnavailable, Principal

__all__ = ["Gate", "Refused"]

Text = str | Callable[[HTTPConnection], Any]


class Refused(HTTPException):
    """A request that is refused. Without :meth:`Gate.install` its body is in ``detail``."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body, answer.headers)
        self.answer = answer


class Gate:
    """Makes dependencies that let pass whom Tollgate allows.

    ``trusted_proxies`` are the addresses or CIDRs of proxies whose X-Forwarded-For is
    believed: leave it empty when the server rewrites the peer's address by itself.
    """

    def __init__(self, client: AsyncClient, *, trusted_proxies: Iterable[str] = ()) -> None:
        self._client, self._proxies = client, Proxies(trusted_proxies)

    def install(self, app: FastAPI) -> None:
        """Has an application answer refusals as the other SDKs do."""
        app.add_exception_handler(Refused, _answer)

    def require(
        self,
        permission: str = "",
        *,
        any_of: Sequence[str] = (),
        all_of: Sequence[str] = (),
        authenticated: bool = False,
        self_only: bool = False,
        self_id: Text = "",
        resource: Text = "",
        context: Mapping[str, str] | Callable[[HTTPConnection], Any] | None = None,
        resource_attributes: Mapping[str, Any] | Callable[[HTTPConnection], Any] | None = None,
        cost: int = 1,
        on_unavailable: OnUnavailable | None = None,
    ) -> Callable[..., Awaitable[Principal | None]]:
        """Returns a dependency that is the caller; takes the fields of :class:`tollgate.rules.Rule`.

        It is None only for a call that nobody decided about, see ``on_unavailable``. Other
        requests are answered 401, 403, 429 or 503. A WebSocket is refused before it is
        accepted, and not checked again: :mod:`tollgate.asgi` does that.
        """
        rule = Rule(
            permission,
            any_of=any_of,
            all_of=all_of,
            authenticated=authenticated,
            self_only=self_only,
            self_id=self_id,
            resource=resource,
            context=context,
            resource_attributes=resource_attributes,
            cost=cost,
            on_unavailable=on_unavailable,
        )

        async def caller(connection: HTTPConnection, response: Response) -> Principal | None:
            request = await rule.request(connection.scope, self._proxies, connection, connection.path_params)
            decision, answer = await decide(self._client, request)
            if answer is not None:
                if connection.scope["type"] == "websocket":
                    raise WebSocketException(1008)
                raise Refused(answer)
            response.headers.update(_refusals.limit_headers(decision.limits))
            return decision.principal

        return caller


async def _answer(_: Any, refused: Any) -> Response:
    answer: Answer = refused.answer
    return Response(answer.content(), answer.status, answer.headers)
