"""Events as the audit log's tree has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeGuard

from tollgate._audit_text import NotProven, decode_base64, text_of

_MAX = 32 << 10  # bytes
_HEADER = "tollgate-audit-v1\n"

# As a leaf has them beside actor and details; all are texts, and there are no others.
_MEMBERS = "action id ip outcome reason recordedBy requestId resource salt time userAgent".split()
_ACTOR = "apiKeyId sessionId userId username".split()
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


class Leaf(NamedTuple):
    event: dict[str, str]  # what is neither in the actor nor in the details
    actor: dict[str, str]
    details: dict[str, str]
    time: datetime


def parse_leaf(data: bytes) -> Leaf:
    """Reads a leaf.

    Only bytes that are as the log writes them are one: canonical JSON (RFC 8785), every
    member present.
    """
    text = text_of(data, _MAX)
    if not text.startswith(_HEADER):
        raise NotProven("not an event of an audit log")
    try:
        event = json.loads(text[len(_HEADER) :])
    except (ValueError, RecursionError) as e:
        raise NotProven("the event is not in JSON") from e
    if not isinstance(event, dict):
        raise NotProven("the event is not an object")
    actor, details = event.pop("actor", None), event.pop("details", None)
    if not (_has_texts(event, _MEMBERS) and _has_texts(actor, _ACTOR) and _has_texts(details)):
        raise NotProven("the event does not have the members of an event")
    written = {name: _quote(value) for name, value in event.items()}
    if _HEADER + _object(written | {"actor": _canonical(actor), "details": _canonical(details)}) != text:
        raise NotProven("the event is not in canonical form (RFC 8785)")
    if decode_base64(event["salt"]) is None:
        raise NotProven("the event has no salt")
    return Leaf(event, actor, details, _time(event["time"]))


def _has_texts(value: Any, names: Sequence[str] | None = None) -> TypeGuard[dict[str, str]]:
    """Says whether a value is an object of texts, with exactly these names if any are given."""
    return (
        isinstance(value, dict)
        and all(isinstance(text, str) for text in value.values())
        and (names is None or sorted(value) == names)
    )


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _canonical(value: Mapping[str, str]) -> str:
    return _object({name: _quote(text) for name, text in value.items()})


def _object(members: Mapping[str, str]) -> str:
    """Writes an object of members that are JSON already (RFC 8785), by their names in UTF-16."""
    names = sorted(members, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{_quote(name)}:{members[name]}" for name in names) + "}"


def _time(text: str) -> datetime:
    """Reads a time in UTC, to the microsecond."""
    form = text[:-1] + "+00:00"
    try:
        at = datetime.fromisoformat(form)
    except ValueError as e:
        raise NotProven("the event has no time") from e
    if not _TIME.fullmatch(text) or at.isoformat(timespec="microseconds") != form:
        raise NotProven("the event has no time")
    return at
