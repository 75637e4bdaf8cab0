"""What a request needs."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tollgate._connection import Proxies, Scope, header
from tollgate._credential import bearer
from tollgate.types import AuthorizeRequest, OnUnavailable


class Public(enum.Enum):
    """The type of :data:`PUBLIC`."""

    PUBLIC = "public"


PUBLIC: Final = Public.PUBLIC
"""Every request passes, and Tollgate is not asked."""

_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a request needs: exactly one of the first five.

    ``resource`` and ``self_id`` are texts with the path's parameters, ``"orders/{id}"``, or,
    like ``context`` and ``resource_attributes``, callables of the request (FastAPI's
    connection, or the ASGI scope with its ``path_params``), which may be asynchronous.
    """

    permission: str = field(default="", kw_only=False)
    any_of: Sequence[str] = ()
    all_of: Sequence[str] = ()
    authenticated: bool = False
    self_only: bool = False
    self_id: str | Callable[[Any], Any] = ""
    resource: str | Callable[[Any], Any] = ""  # empty: the path
    context: Mapping[str, str] | Callable[[Any], Any] | None = None
    resource_attributes: Mapping[str, Any] | Callable[[Any], Any] | None = None
    cost: int = 1
    on_unavailable: OnUnavailable | None = None

    def __post_init__(self) -> None:
        if isinstance(self.any_of, str) or isinstance(self.all_of, str):
            raise ValueError("tollgate: any_of and all_of must be lists of permissions")
        wanted = (self.permission, self.any_of, self.all_of, self.authenticated, self.self_only)
        if sum(1 for w in wanted if w) != 1:
            raise ValueError("tollgate: give exactly one of permission, any_of, all_of, authenticated and self_only")
        if self.self_only and not self.self_id:
            raise ValueError("tollgate: self_only needs self_id, the user that the request is about")

    async def request(
        self, scope: Scope, proxies: Proxies, connection: Any, parameters: Mapping[str, Any]
    ) -> AuthorizeRequest:
        """Returns what to ask about a connection."""
        return AuthorizeRequest(
            permission=self.permission,
            any_of=self.any_of,
            all_of=self.all_of,
            authenticated=self.authenticated,
            self_only=self.self_only,
            self_id=await _text(self.self_id, connection, parameters),
            resource=await _text(self.resource, connection, parameters) or scope.get("path", ""),
            context=await _value(self.context, connection),
            resource_attributes=await _value(self.resource_attributes, connection),
            credential=bearer(header(scope, "authorization")),
            ip=proxies.caller(scope),
            user_agent=", ".join(header(scope, "user-agent")),
            request_id=", ".join(header(scope, "x-request-id")),
            cost=self.cost,
            on_unavailable=self.on_unavailable,
        )


async def _value(given: Any, connection: Any) -> Any:
    value = given(connection) if callable(given) else given
    return await value if inspect.isawaitable(value) else value


async def _text(given: str | Callable[[Any], Any], connection: Any, parameters: Mapping[str, Any]) -> str:
    if isinstance(given, str):
        return _PARAMETER.sub(lambda m: str(parameters[m[1]]), given)
    return str(await _value(given, connection))
