"""What the two clients have in common: everything but waiting."""

from __future__ import annotations

import copy
import functools
import inspect
import ssl
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import httpx

from tollgate import _answers, _requests
from tollgate._answers import MAX_ANSWER, Object
from tollgate._credential import Kind, kind_of
from tollgate._failure import Failures
from tollgate._requests import Call
from tollgate._retry import Attempts, Retries
from tollgate.errors import TollgateError, Unavailable
from tollgate.types import AuthorizeRequest, Decision, OnUnavailable

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound="Base")

CONNECTIONS = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=30)

Outcome = tuple[Object | TollgateError, bool]  # true: no connection was made


def takes_request(
    made: Callable[P, AuthorizeRequest],
) -> Callable[[Callable[[B, AuthorizeRequest], R]], Callable[Concatenate[B, P], R]]:
    """Gives a method that takes a request the request's fields as its parameters."""

    def decorate(method: Callable[[B, AuthorizeRequest], R]) -> Callable[Concatenate[B, P], R]:
        @functools.wraps(method)
        def call(self: B, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, made(*args, **kwargs))

        fields = inspect.signature(made).parameters.values()
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        call.__signature__ = inspect.Signature([own, *fields])  # type: ignore[attr-defined]
        return call

    return decorate


class Base:
    """Options, retries and failures of one client, and of those that are bound to a credential."""

    def __init__(self, url: str, api_key: str, timeout: float, retries: int, on_unavailable: OnUnavailable) -> None:
        self._url = _checked(url)
        if kind_of(api_key) is not Kind.API_KEY:
            raise ValueError("tollgate: api_key must be one that Tollgate issued: it starts with tg_")
        if not timeout > 0:
            raise ValueError("tollgate: timeout must be longer than zero")
        if not 0 <= retries <= 10:
            raise ValueError("tollgate: retries must be from 0 to 10")
        if on_unavailable not in ("deny", "allow"):
            raise ValueError("tollgate: on_unavailable must be 'deny' or 'allow'")
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "tollgate-python",
        }
        self._timeout = timeout
        self._retries = Retries(retries)
        self._failures = Failures(on_unavailable, timeout)
        self._bound: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._url}>"

    @property
    def failed_open(self) -> int:
        """How many calls were allowed because Tollgate did not answer."""
        return self._failures.opened

    def as_(self: B, credential: str) -> B:
        """Returns this client for what a caller presented: calls are about it, unless they name another.

        It shares the connections; close the original.
        """
        bound = copy.copy(self)
        bound._bound = credential
        return bound

    def _credential(self, given: str | None) -> str:
        return (self._bound or "") if given is None else given

    def _authorize(self, request: AuthorizeRequest) -> tuple[str, Call]:
        credential = self._credential(request.credential)
        return credential, _requests.authorize("/v1/authorize", request, credential, self._retries.most > 0)

    def _explain(self, request: AuthorizeRequest) -> tuple[str, Call]:
        credential = self._credential(request.credential)
        return credential, _requests.authorize("/v1/authorize/explain", request, credential, False)

    def _decided(self, request: AuthorizeRequest, credential: str, answer: Object) -> Decision:
        decision = _answers.decision(answer, well_formed(credential))
        self._failures.learn(request, credential, decision)
        return decision

    def _begin(self, call: Call) -> Attempts:
        return self._retries.begin(call, self._timeout)

    def _outcome(self, attempts: Attempts, outcome: Outcome) -> Object | float:
        """Returns the answer, or after how many seconds to try again, or raises the error."""
        answer, unsent = outcome
        if not isinstance(answer, TollgateError):
            self._retries.answered()
            return answer
        wait = attempts.wait(answer, unsent)
        if wait is None:
            raise answer
        return wait


def well_formed(credential: str) -> bool:
    """Says whether a credential was sent, or there is none."""
    return not credential or kind_of(credential) is not Kind.NONE


class Body:
    """Collects an answer within its bounds."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._text = bytearray()
        self.problem: TollgateError | None = None
        if response.headers.get("Content-Encoding", "identity") != "identity":
            self.problem = TollgateError("internal", "the answer is compressed, which it was not asked to be")

    def add(self, part: bytes) -> bool:
        """Says whether to go on."""
        self._text += part
        if len(self._text) > MAX_ANSWER:
            self.problem = TollgateError("resource_exhausted", "the answer has more than 1 MiB")
        return self.problem is None

    def outcome(self) -> Outcome:
        if self.problem is not None:
            return self.problem, False
        content_type = self._response.headers.get("Content-Type", "")
        return _answers.read(self._response.status_code, content_type, bytes(self._text)), False


def late() -> Outcome:
    return Unavailable("deadline_exceeded", "no answer within the timeout"), False


def no_answer(error: Exception) -> Outcome:
    """Names the kind of the failure only: the exception holds the request, with its key."""
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return late()
    return Unavailable("unavailable", f"no answer ({type(error).__name__})"), isinstance(error, httpx.ConnectError)


# What sending and receiving fail with.
FAILURES = (httpx.TransportError, httpx.InvalidURL, httpx.StreamError, OSError, ssl.SSLError)


def left(attempts: Attempts) -> float:
    return max(0.001, attempts.deadline - time.monotonic())


def _checked(url: str) -> str:
    """Refuses what cannot be Tollgate's address. The error does not repeat it: it may hold a secret."""
    problem = "tollgate: the URL must be https:// or http:// with a host, and nothing secret, no query and no fragment"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    else:
        good = good and "@" not in parts.netloc and not any(c in url for c in "?#\\") and url.isprintable()
    if not good or " " in url:
        raise ValueError(problem)
    return url.rstrip("/")
