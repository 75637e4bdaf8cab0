"""The cases that the SDKs have in common, and how results are compared; see sdk/testdata/README.md."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import tollgate
from servers import REPOSITORY, Tollgate

FILE = json.loads((REPOSITORY / "sdk" / "testdata" / "cases.json").read_text())
PLACEHOLDER = re.compile(r"\$\{(?:repeat (\S+) (\d+)|now\+(\d+)s|(\w+))\}")

REQUEST = {
    "credential": "credential",
    "userId": "user_id",
    "permission": "permission",
    "anyOf": "any_of",
    "allOf": "all_of",
    "authenticated": "authenticated",
    "self": "self_id",
    "selfOnly": "self_only",
    "resource": "resource",
    "resourceAttributes": "resource_attributes",
    "actionProperties": "action_properties",
    "context": "context",
    "ip": "ip",
    "userAgent": "user_agent",
    "requestId": "request_id",
    "cost": "cost",
    "recheck": "recheck",
    "minRevision": "min_revision",
    "onUnavailable": "on_unavailable",
    "action": "action",
    "outcome": "outcome",
    "reason": "reason",
    "details": "details",
    "actor": "actor",
    "limit": "limit",
    "key": "key",
    "peek": "peek",
    "username": "username",
}


class Saved(dict[str, Any]):
    """What steps have saved, by name."""

    def fill(self, value: Any) -> Any:
        match value:
            case str():
                if (found := PLACEHOLDER.fullmatch(value)) and found[4]:
                    return self[found[4]]
                return PLACEHOLDER.sub(self._one, value)
            case dict():
                return {k: self.fill(v) for k, v in value.items()}
            case list():
                return [self.fill(v) for v in value]
        return value

    def _one(self, found: re.Match[str]) -> str:
        if found[1]:
            return found[1] * int(found[2])
        if found[3]:
            return (datetime.now(UTC) + timedelta(seconds=int(found[3]))).isoformat()
        return str(self[found[4]])

    def rest(self, server: Tollgate, step: dict[str, Any]) -> None:
        credential = self.fill(step["as"]) if "as" in step else None
        answer = server.rest(step["method"], self.fill(step["path"]), self.fill(step.get("body")), credential)
        for name, path in step.get("save", {}).items():
            value: Any = answer
            for part in path.split("."):
                value = value[part]
            self[name] = value
        if "want" in step:
            assert not (problem := unlike("body", self.fill(step["want"]), answer)), problem

    def secrets(self) -> list[str]:
        return ["hunter2", *(v for v in self.values() if isinstance(v, str) and v.startswith(("tg_", "eyJ")))]


def arguments(args: dict[str, Any]) -> dict[str, Any]:
    named = {REQUEST[name]: value for name, value in args.items()}
    for name in ("cost", "min_revision"):
        if name in named:
            named[name] = int(named[name])
    return named


def event(args: dict[str, Any]) -> tollgate.Event:
    named: dict[str, Any] = {"outcome": "", **arguments(args)}
    if "actor" in named:
        named["actor"] = tollgate.Principal(**arguments(named["actor"]))
    return tollgate.Event(**named)


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(o.capitalize() for o in others)


def plain(value: Any) -> Any:
    """A result in the names of the cases."""
    if hasattr(value, "__dataclass_fields__"):
        names = {"from_role": "from"}
        return {names.get(n, camel(n)): plain(getattr(value, n)) for n in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value


def problem_of(error: tollgate.TollgateError) -> dict[str, Any]:
    code = "unavailable" if isinstance(error, tollgate.Unavailable) else error.code
    return {
        "code": code,
        "reason": error.reason,
        "retryAfter": error.retry_after,
        "field": error.field if isinstance(error, tollgate.InvalidArgument) else "",
    }


def unlike(path: str, want: Any, got: Any) -> str:
    """Says where got is not what is wanted; empty: nowhere."""
    different = f"{path} is {got!r}, want {want!r}"
    match want:
        case None:
            return different if got else ""
        case "*":
            return "" if got else different
        case dict():
            if not isinstance(got, dict):
                return different
            return next((p for k, v in want.items() if (p := unlike(f"{path}.{k}", v, got.get(k)))), "")
        case list():
            if not isinstance(got, list) or len(got) != len(want):
                return different
            return next((p for i, v in enumerate(want) if (p := unlike(f"{path}[{i}]", v, got[i]))), "")
    return "" if want == got and type(want) is type(got) else different


