"""Requests as JSON, and what may be done with them."""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tollgate._credential import Kind, kind_of
from tollgate.errors import InvalidArgument, invalid
from tollgate.types import AuthorizeRequest, Event

MAX_MESSAGE = 256 << 10  # Tollgate hangs up on a larger one, which would look like an outage
MAX_USER_ID = 64  # no user has a longer id


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A request that is ready to be sent."""

    path: str
    body: bytes
    repeatable: bool = False  # Tollgate counts it once however often it comes
    keyed: bool = False  # by a key, which Tollgate knows for a while


def authorize(path: str, request: AuthorizeRequest, credential: str, keyed: bool) -> Call:
    """A malformed credential is left out, so that the call still counts against its address."""
    if credential and request.user_id:
        raise invalid("credential", "give a credential or a user_id, not both")
    body: dict[str, Any] = {
        "permission": request.permission,
        "anyOf": list(request.any_of),
        "allOf": list(request.all_of),
        "authenticated": request.authenticated,
        "selfOnly": request.self_only,
        "self": request.self_id if len(request.self_id.encode(errors="replace")) <= MAX_USER_ID else "",
        "resource": clip(request.resource, 256),
        "resourceAttributes": dict(request.resource_attributes or {}),
        "actionProperties": dict(request.action_properties or {}),
        "context": dict(request.context or {}),
        "client": {
            "ip": address(request.ip),
            "userAgent": clip(request.user_agent, 512),
            "requestId": clip(request.request_id, 128),
        },
        "cost": str(request.cost),
        "minRevision": str(request.min_revision),
        "recheck": request.recheck,
    }
    keyed = keyed and not request.recheck
    if keyed:
        body["idempotencyKey"] = call_key()
    if request.user_id:
        body["userId"] = request.user_id
    elif field := _field_of(credential):
        body[field] = credential
    return Call(path, encode(body), repeatable=keyed or request.recheck, keyed=keyed)


def verify(credential: str) -> Call | None:
    """Returns None for what is no credential by its form: nobody need be asked."""
    field = _field_of(credential)
    return Call("/v1/auth/verify", encode({field: credential}), repeatable=True) if field else None


def check_limit(limit: str, key: str, cost: int, peek: bool, keyed: bool) -> Call:
    body: dict[str, Any] = {"limit": limit, "key": key, "cost": str(cost), "peek": peek}
    keyed = keyed and not peek
    if keyed:
        body["idempotencyKey"] = call_key()
    return Call("/v1/limits/check", encode(body), repeatable=keyed or peek, keyed=keyed)


def record_event(event: Event) -> Call:
    return Call("/v1/audit/events", encode(_event(event)))


def record_events(events: Sequence[Event]) -> Call:
    return Call("/v1/audit/events/batch", encode({"events": [_event(e) for e in events]}))


def _event(event: Event) -> dict[str, Any]:
    body: dict[str, Any] = {
        "action": event.action,
        "outcome": f"OUTCOME_{event.outcome}" if event.outcome in ("SUCCESS", "DENIED", "FAILURE") else 0,
        "reason": event.reason,
        "resource": event.resource,
        "ip": address(event.ip),
        "userAgent": clip(event.user_agent, 512),
        "requestId": clip(event.request_id, 128),
        "details": dict(event.details),
    }
    if (p := event.actor) is not None:
        body["actor"] = {
            "userId": p.user_id,
            "username": p.username,
            "sessionId": p.session_id,
            "apiKeyId": p.api_key_id,
        }
    return body


def _field_of(credential: str) -> str:
    return {Kind.ACCESS_TOKEN: "accessToken", Kind.API_KEY: "apiKey", Kind.NONE: ""}[kind_of(credential)]


def call_key() -> str:
    """A name for one call. At random, because processes that were forked share any count."""
    return secrets.token_urlsafe(16)


def address(text: str) -> str:
    """An address as Tollgate takes it; empty for none."""
    if not text:
        return ""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def clip(text: str, size: int) -> str:
    """Cuts text to bytes of UTF-8: callers choose it, and it must not make a decision fail."""
    return text.encode(errors="ignore")[:size].decode(errors="ignore")


def encode(body: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        failed: Exception | None = invalid("request", "attributes, context and details must be what JSON can say")
    else:
        failed = None
        if len(text) > MAX_MESSAGE:
            failed = InvalidArgument(
                "resource_exhausted",
                "the request has more than 256 KiB; shorten the context or the attributes, or send fewer at once",
                reason="TOO_LARGE",
            )
    if failed is not None:
        raise failed  # outside of the except block: its exception may quote what was to be sent
    return text
