"""Signed notes (https://c2sp.org/signed-note), by Ed25519."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError as e:
    raise ImportError("tollgate.audit needs the package cryptography: pip install 'tollgate[audit]'") from e

from tollgate._audit_text import NotProven, decode_base64

_ED25519 = 1  # the algorithm's number
_SIGNATURE_SIZE = 4 + 64  # with the key's hash
_MAX_SIGNATURES = 100

_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space of Unicode
_NAME = f"([^{_SPACE}\ud800-\udfff+]+)"
_KEY = re.compile(f"[{_SPACE}]*{_NAME}" r"\+([0-9A-Fa-f]{8})\+([A-Za-z0-9+/]{44})" f"[{_SPACE}]*")
_LINE = re.compile(f"— {_NAME} ([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that signs notes."""

    name: str
    hash: bytes
    public: Ed25519PublicKey


def parse_key(text: str) -> Key:
    """Reads a key in the form NAME+HASH+KEY."""
    if match := _KEY.fullmatch(text):
        name, digits, encoded = match.groups()
        key = decode_base64(encoded) or b""
        known = hashlib.sha256(f"{name}\n".encode() + key).digest()[:4]
        if key[:1] == bytes([_ED25519]) and known == bytes.fromhex(digits):
            return Key(name, known, Ed25519PublicKey.from_public_bytes(key[1:]))
    raise ValueError(f"{text!r} is not a log's key, NAME+HASH+KEY as GET /v1/audit/keys gives it")


def open_note(signed: str, keys: Sequence[Key]) -> tuple[str, set[str]]:
    """Returns what is signed, and the names of those whose keys are known and who signed it.

    Of each key its first signature counts, which has to be good; those of others are no
    obstacle.
    """
    text, found, signatures = signed.rpartition("\n\n")
    text += "\n"
    *lines, end = signatures.split("\n")
    control = any(c < " " and c != "\n" for c in signed)
    if not found or control or end or len(lines) > _MAX_SIGNATURES:
        raise NotProven("not a signed note (https://c2sp.org/signed-note)")
    seen: set[tuple[str, bytes]] = set()
    for line in lines:
        match = _LINE.fullmatch(line)
        raw = decode_base64(match[2]) if match else None
        if match is None or raw is None or len(raw) < 5:
            raise NotProven("a line is not a signature")
        name = match[1]
        known = [key for key in keys if key.name == name and key.hash == raw[:4]]
        if not known or (name, raw[:4]) in seen:
            continue
        if len(known) > 1:
            raise NotProven(f"two keys are {name}+{raw[:4].hex()}")
        seen.add((name, raw[:4]))
        if len(raw) != _SIGNATURE_SIZE or not _signed(known[0], raw[4:], text):
            raise NotProven(f"the signature of {name} is not good")
    return text, {name for name, _ in seen}


def _signed(key: Key, signature: bytes, text: str) -> bool:
    try:
        key.public.verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True
