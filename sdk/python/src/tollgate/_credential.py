"""The form of what callers present."""

import base64
import binascii
import enum
import json
import re
import time
from collections.abc import Iterable

KEY_PREFIX = "tg_"
MAX_TOKEN, MAX_KEY = 8192, 256

# Stands for a credential that is no single token: it is invalid, not missing, and is
# never sent.
MALFORMED = ","

_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 §2.1
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


class Kind(enum.Enum):
    NONE = enum.auto()
    ACCESS_TOKEN = enum.auto()
    API_KEY = enum.auto()


def kind_of(credential: str) -> Kind:
    """Checks the form only: the alphabet, and the lengths that Tollgate accepts."""
    key = credential.startswith(KEY_PREFIX)
    if len(credential) > (MAX_KEY if key else MAX_TOKEN) or not _BEARER.fullmatch(credential):
        return Kind.NONE
    return Kind.API_KEY if key else Kind.ACCESS_TOKEN


def bearer(authorization: Iterable[str]) -> str:
    """Returns the credential in a request's Authorization headers.

    None, or one with another scheme, is no credential (RFC 6750 §3.1); two, or Bearer
    without a token, are a bad one.
    """
    values = list(authorization)
    if not values:
        return ""
    if len(values) > 1:
        return MALFORMED
    scheme, _, credential = values[0].partition(" ")
    if scheme.lower() != "bearer":
        return ""
    return credential.strip(" ") or MALFORMED


def may_be_good(token: str) -> bool:
    """Says whether an access token is one by its form, and has not expired by its own word."""
    segments = token.split(".")
    if len(segments) != 3 or not all(_SEGMENT.fullmatch(s) for s in segments):
        return False
    payload = segments[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    expires = claims.get("exp") if isinstance(claims, dict) else None
    return isinstance(expires, int) and not isinstance(expires, bool) and time.time() < expires
