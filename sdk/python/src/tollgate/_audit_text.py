"""The texts and bytes that proofs of the audit log consist of."""

from __future__ import annotations

import base64
import re


class NotProven(Exception):
    """Nothing is proven: the proof or checkpoint is not one, or not of this log."""


def text_of(data: bytes, most: int) -> str:
    """Reads UTF-8 of at most so many bytes."""
    if len(data) > most:
        raise NotProven(f"more than {most} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise NotProven("not UTF-8") from e


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")


def decode_base64(text: str) -> bytes | None:
    """Reads base64 in the one spelling that bytes have; None for anything else.

    It has its padding, and the bits that are left over are 0 (RFC 4648 §3.5, §4).
    """
    return base64.b64decode(text) if _BASE64.fullmatch(text) else None


def decode_hash(text: str) -> bytes | None:
    """Reads a hash in base64; None for anything else."""
    found = decode_base64(text)
    return found if found is not None and len(found) == 32 else None
