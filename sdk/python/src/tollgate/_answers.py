"""Answers from JSON. What is missing or of another type allows nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tollgate import types
from tollgate.errors import TollgateError, Violation, class_of

MAX_ANSWER = 1 << 20

Object = Mapping[str, Any]

# What an answer that is not Tollgate's means, as in Connect's protocol.
_STATUS = {
    400: "internal",
    401: "unauthenticated",
    403: "permission_denied",
    404: "unimplemented",
    429: "unavailable",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
}


def read(status: int, content_type: str, body: bytes) -> Object | TollgateError:
    """Returns the object of a good answer, and the error otherwise."""
    if 300 <= status < 400:
        return TollgateError(
            "failed_precondition", f"the URL answers with a redirect ({status}); give the address it leads to"
        )
    value: Any = None
    if content_type.partition(";")[0].strip().lower() == "application/json":
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
    found = value if isinstance(value, dict) else None
    if status != 200:
        return _error(status, found or {})
    return incomplete("a JSON object") if found is None else found


def incomplete(what: str) -> TollgateError:
    return TollgateError(
        "internal", f"the answer lacks {what}; check that the URL leads to Tollgate", reason="INCOMPLETE_ANSWER"
    )


def _error(status: int, body: Object) -> TollgateError:
    code = _text(body, "code") or _STATUS.get(status, "unknown")
    reason, request_id, retry_after, violations = "", "", 0.0, list[Violation]()
    for detail in _objects(body, "details"):
        debug = _object(detail, "debug")
        match detail.get("type"):
            case "google.rpc.ErrorInfo":
                reason, request_id = _text(debug, "reason"), _text(_object(debug, "metadata"), "request_id")
            case "google.rpc.RetryInfo":
                retry_after = _seconds(debug, "retryDelay")
            case "google.rpc.BadRequest":
                for v in _objects(debug, "fieldViolations"):
                    violations.append(Violation(_text(v, "field"), _text(v, "description")))
    return class_of(code, reason)(
        code,
        _text(body, "message") or f"HTTP status {status}",
        reason=reason,
        request_id=request_id,
        retry_after=retry_after,
        violations=tuple(violations),
    )


def decision(body: Object, well_formed: bool) -> types.Decision:
    """The answer to a credential that was left out because it is malformed refuses."""
    allowed, reason = _allowed(body, well_formed)
    principal = _principal(body)
    if allowed and principal is None:
        raise incomplete("the principal")
    return types.Decision(
        allowed=allowed,
        reason=reason,
        principal=principal,
        retry_after=_seconds(body, "retryAfter"),
        limits=_limits(body),
        revision=_integer(body, "revision"),
        grant=_text(body, "grant"),
    )


def _allowed(body: Object, well_formed: bool) -> tuple[bool, str]:
    allowed, reason = body.get("allowed") is True, _enum(body, "reason", "REASON_")
    if well_formed:
        return allowed, reason
    return False, "CREDENTIAL_INVALID" if reason == "CREDENTIAL_MISSING" else reason


def verification(body: Object) -> types.Verification:
    active, principal = body.get("active") is True, _principal(body)
    if active and principal is None:
        raise incomplete("the principal")
    return types.Verification(
        active=active,
        reason=_enum(body, "reason", "REASON_"),
        principal=principal,
        revision=_integer(body, "revision"),
    )


def limit_check(body: Object) -> types.LimitCheck:
    return types.LimitCheck(
        allowed=body.get("allowed") is True,
        status=_status(_object(body, "status")),
        retry_after=_seconds(body, "retryAfter"),
    )


def explanation(body: Object, well_formed: bool) -> types.Explanation:
    allowed, reason = _allowed(body, well_formed)
    return types.Explanation(
        allowed=allowed,
        reason=reason,
        principal=_principal(body),
        grants=tuple(_grant(g) for g in _objects(body, "grants")),
        truncated=body.get("truncated") is True,
        limits=_limits(body),
        scopes=_texts(body, "scopes"),
        revision=_integer(body, "revision"),
    )


def _grant(body: Object) -> types.GrantTrace:
    return types.GrantTrace(
        role=_text(body, "role"),
        from_role=_text(body, "from"),
        permission=_text(body, "permission"),
        condition=_text(body, "condition"),
        effect=_enum(body, "effect", "EFFECT_"),
        verdict=_enum(body, "verdict", "VERDICT_"),
        detail=_text(body, "detail"),
        read={k: v for k, v in _object(body, "read").items() if isinstance(v, str)},
    )


def _principal(body: Object) -> types.Principal | None:
    p = _object(body, "principal")
    if not _text(p, "userId"):
        return None
    return types.Principal(
        user_id=_text(p, "userId"),
        username=_text(p, "username"),
        service=p.get("kind") == "USER_KIND_SERVICE",
        roles=_texts(p, "roles"),
        session_id=_text(p, "sessionId"),
        api_key_id=_text(p, "apiKeyId"),
        scopes=_texts(p, "scopes"),
        expires_at=_time(p, "expiresAt"),
        audience=_text(p, "audience"),
        amr=_texts(p, "amr"),
        auth_time=_time(p, "authTime"),
    )


def _limits(body: Object) -> tuple[types.LimitStatus, ...]:
    return tuple(_status(s) for s in _objects(body, "limits"))


def _status(body: Object) -> types.LimitStatus:
    return types.LimitStatus(
        name=_text(body, "name"),
        limit=_integer(body, "limit"),
        remaining=_integer(body, "remaining"),
        reset=_seconds(body, "reset"),
        exceeded=body.get("exceeded") is True,
        shadow=body.get("shadow") is True,
    )


def _object(body: Object, name: str) -> Object:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _objects(body: Object, name: str) -> list[Object]:
    value = body.get(name)
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _text(body: Object, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _texts(body: Object, name: str) -> tuple[str, ...]:
    value = body.get(name)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _enum(body: Object, name: str, prefix: str) -> str:
    return _text(body, name).removeprefix(prefix)


def _integer(body: Object, name: str) -> int:
    """An int64, which JSON has as text."""
    value = _text(body, name)
    return int(value) if len(value) <= 20 and value.removeprefix("-").isdecimal() else 0


def _seconds(body: Object, name: str) -> float:
    """A duration, "1.5s"."""
    value = _text(body, name).removesuffix("s")
    whole, _, fraction = value.partition(".")
    if len(value) > 32 or not whole.isdecimal() or fraction and not fraction.isdecimal():
        return 0.0
    return float(value)


def _time(body: Object, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(body, name))
    except ValueError:
        return None
