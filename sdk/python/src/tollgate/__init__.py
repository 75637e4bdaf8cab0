"""Asks a Tollgate server who is calling, whether they may, and how often.

::

    gate = tollgate.Client("https://tollgate.internal", api_key=os.environ["TOLLGATE_API_KEY"])
    gate.authorize("orders:read", credential=token, resource="orders/42").raise_if_refused()

:mod:`tollgate.fastapi` and :mod:`tollgate.asgi` protect applications.
"""

from tollgate.aio import AsyncClient
from tollgate.client import Client
from tollgate.errors import (
    InvalidArgument,
    PermissionDenied,
    RateLimited,
    TollgateError,
    Unauthenticated,
    Unavailable,
    Violation,
)
from tollgate.types import (
    AuthorizeRequest,
    Decision,
    Event,
    Explanation,
    GrantTrace,
    LimitCheck,
    LimitStatus,
    Principal,
    Verification,
)

__all__ = [
    "AsyncClient",
    "AuthorizeRequest",
    "Client",
    "Decision",
    "Event",
    "Explanation",
    "GrantTrace",
    "InvalidArgument",
    "LimitCheck",
    "LimitStatus",
    "PermissionDenied",
    "Principal",
    "RateLimited",
    "TollgateError",
    "Unauthenticated",
    "Unavailable",
    "Verification",
    "Violation",
]
