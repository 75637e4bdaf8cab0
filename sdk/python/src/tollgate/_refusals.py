"""What callers are answered: the same as from the middleware in Go (sdk/testdata/refusals.json)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tollgate.types import CREDENTIAL_REASONS, Decision, LimitStatus

BAD_TOKEN = 'Bearer error="invalid_token"'  # given and not good (RFC 6750 §3.1)
STEP_UP = 'Bearer error="insufficient_user_authentication"'  # good, by a sign-in that was too weak (RFC 9470 §3)
SCOPE = 'Bearer error="insufficient_scope"'

_CREDENTIAL = {
    "CREDENTIAL_MISSING": "send an access token or an API key as Authorization: Bearer",
    "CREDENTIAL_EXPIRED": "the credential has expired; refresh it or sign in again",
    "CREDENTIAL_REVOKED": "the credential was revoked; sign in again",
    "USER_DISABLED": "the user is disabled",
    "CREDENTIAL_INVALID": "the credential is not valid; sign in again",
    "USER_UNKNOWN": "the credential is not valid; sign in again",
    "WRONG_AUDIENCE": "the access token was issued for another service; ask for one with the audience of this one",
    "SECOND_FACTOR_REQUIRED": "sign in again, with a second factor",
    "SIGN_IN_REQUIRED": "the sign-in is too long ago; sign in again",
}
_CHALLENGE = {"CREDENTIAL_MISSING": "Bearer", "SECOND_FACTOR_REQUIRED": STEP_UP, "SIGN_IN_REQUIRED": STEP_UP}

_CONDITION = "your roles grant {} only under a condition that is not met here"
_PERMISSION = {
    "PERMISSION_MISSING": "this needs the permission {}, which none of your roles grants",
    "SCOPE_MISSING": "this needs the permission {}, which the API key's scopes leave out",
    "DENIED_BY_GRANT": "one of your roles denies {} here",
    "CONDITION_FALSE": _CONDITION,
    "CONDITION_FAILED": _CONDITION,
    "SELF_ONLY": "only the user in question may make this call, signed in as a person",
    "PASSWORD_CHANGE_REQUIRED": "choose a new password first",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as an HTTP response."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        return raw({**self.headers, "Content-Length": str(len(self.content()))})

    def content(self) -> bytes:
        return json.dumps(self.body).encode()


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]


def refusal(decision: Decision, named: str) -> Answer:
    """The answer to a caller whose call is not allowed; ``named`` is what it needs, for people."""
    reason = decision.reason
    if reason in CREDENTIAL_REASONS:
        headers = {"WWW-Authenticate": _CHALLENGE.get(reason, BAD_TOKEN)}
        return _answer(401, "unauthenticated", reason, _CREDENTIAL[reason], headers)
    if reason == "LIMITED":
        headers = limit_headers(decision.limits)
        return _answer(429, "resource_exhausted", reason, "too many calls", headers, decision.retry_after)
    message = _PERMISSION.get(reason, "this call is not allowed").format(named)
    headers = {"WWW-Authenticate": SCOPE, **limit_headers(decision.limits)}
    return _answer(403, "permission_denied", reason, message, headers)


def unavailable(retry_after: float) -> Answer:
    """The answer when there is no decision; why is for the log only."""
    message = "access cannot be checked right now; try again"
    return _answer(503, "unavailable", "DEPENDENCY_DOWN", message, {}, max(1.0, retry_after))


def without_rule(what: str) -> Answer:
    message = f"{what} cannot be called: its service must give it a rule"
    return _answer(403, "permission_denied", "NO_GUARD", message, {})


def limit_headers(limits: Iterable[LimitStatus]) -> dict[str, str]:
    """The most restrictive limit that is enforced (draft-ietf-httpapi-ratelimit-headers).

    A limit's name is [a-z0-9._-], so quotes are all that its structured field needs.
    """
    for limit in limits:
        if not limit.shadow:
            return {
                "RateLimit": f'"{limit.name}";r={limit.remaining};t={_whole(limit.reset)}',
                "RateLimit-Policy": f'"{limit.name}";q={limit.limit}',
            }
    return {}


def _answer(status: int, code: str, reason: str, message: str, headers: dict[str, str], wait: float = 0.0) -> Answer:
    info = _field(1, reason.encode()) + _field(2, b"tollgate.dev")
    details = [_detail("google.rpc.ErrorInfo", info, {"domain": "tollgate.dev", "reason": reason})]
    headers = {"Content-Type": "application/json", **headers}
    if wait > 0:
        seconds, nanos = divmod(_nanos(wait), 10**9)
        duration = (b"\x08" + _varint(seconds) if seconds else b"") + (b"\x10" + _varint(nanos) if nanos else b"")
        details.append(_detail("google.rpc.RetryInfo", _field(1, duration), {"retryDelay": _duration(seconds, nanos)}))
        headers["Retry-After"] = str(_whole(wait))
    return Answer(status, headers, {"code": code, "message": message, "details": details})


def _detail(kind: str, value: bytes, debug: dict[str, str]) -> dict[str, Any]:
    return {"type": kind, "value": base64.b64encode(value).decode().rstrip("="), "debug": debug}


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _duration(seconds: int, nanos: int) -> str:
    """As protobuf's JSON writes it: with 0, 3, 6 or 9 digits."""
    digits = f"{nanos:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{seconds}.{digits}s" if digits else f"{seconds}s"


def _nanos(seconds: float) -> int:
    return round(seconds * 1e9)


def _whole(seconds: float) -> int:
    """Rounds up, so that no caller comes back too early."""
    return -(-_nanos(seconds) // 10**9)
