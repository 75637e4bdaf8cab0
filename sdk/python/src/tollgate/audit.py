"""Checks proofs of the audit log, without asking anybody.

::

    keys = parse_audit_log_keys(os.environ["AUDIT_KEY"])
    event = keys.verify_proof(Path("event.tlog-proof").read_bytes())

It needs the package cryptography: ``pip install 'tollgate[audit]'``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tollgate._audit_leaf import parse_leaf
from tollgate._audit_note import Key, open_note, parse_key
from tollgate._audit_text import NotProven, decode_base64, decode_hash, text_of
from tollgate._audit_tree import continues, includes, leaf_hash

__all__ = ["AuditCheckpoint", "AuditLogKeys", "NotProven", "ProvenEvent", "parse_audit_log_keys", "verify_consistency"]

_MAX_PROOF, _MAX_CHECKPOINT = 128 << 10, 64 << 10  # bytes
_MAX_SIZE = 1 << 62  # events
_HEADER = "c2sp.org/tlog-proof@v1\n"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_CHECKPOINT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/=]+)\n")


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """What a log had when it signed."""

    origin: str  # the log's name
    size: int  # how many events
    root: bytes  # of their tree, 32 bytes


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """An event that a log has."""

    index: int  # its place in the log, from 0 on
    checkpoint: AuditCheckpoint  # that proves it

    id: str
    time: datetime  # UTC
    user_id: str
    username: str
    session_id: str
    api_key_id: str
    action: str
    outcome: str  # "success", "denied" or "failure"
    reason: str
    resource: str
    ip: str
    user_agent: str
    request_id: str
    details: Mapping[str, str]
    recorded_by: str  # the user id of the service that reported it


@dataclass(frozen=True, slots=True)
class AuditLogKeys:
    """The public keys of an audit log, from :func:`parse_audit_log_keys`."""

    _keys: tuple[Key, ...] = field(default=(), repr=False)

    def verify_proof(self, proof: bytes) -> ProvenEvent:
        """Returns the event that a proof proves.

        ``proof`` is the content of a .tlog-proof file (https://c2sp.org/tlog-proof) as
        GET /v1/audit/tlog/proof/{event_id} gives it. Raises :class:`NotProven`.
        """
        leaf, index, path, signed = _parse(proof)
        checkpoint = self.verify_checkpoint(signed)
        if index >= checkpoint.size or not includes(checkpoint.root, checkpoint.size, index, leaf_hash(leaf), path):
            raise NotProven(f"the log does not have this event at {index}")
        event, actor, details, time = parse_leaf(leaf)
        return ProvenEvent(
            index=index,
            checkpoint=checkpoint,
            id=event["id"],
            time=time,
            user_id=actor["userId"],
            username=actor["username"],
            session_id=actor["sessionId"],
            api_key_id=actor["apiKeyId"],
            action=event["action"],
            outcome=event["outcome"],
            reason=event["reason"],
            resource=event["resource"],
            ip=event["ip"],
            user_agent=event["userAgent"],
            request_id=event["requestId"],
            details=details,
            recorded_by=event["recordedBy"],
        )

    def verify_checkpoint(self, signed: bytes) -> AuditCheckpoint:
        """Checks the signature of a checkpoint (https://c2sp.org/tlog-checkpoint). Raises :class:`NotProven`."""
        text, names = open_note(text_of(signed, _MAX_CHECKPOINT), self._keys)
        match = _CHECKPOINT.fullmatch(text)
        root = decode_hash(match[3]) if match else None
        if match is None or root is None or int(match[2]) > _MAX_SIZE:
            raise NotProven("not a checkpoint (https://c2sp.org/tlog-checkpoint)")
        if match[1] not in names:
            raise NotProven("the checkpoint is not signed by a key of its log")
        return AuditCheckpoint(match[1], int(match[2]), root)


def parse_audit_log_keys(*keys: str) -> AuditLogKeys:
    """Reads the public keys of an audit log in the form NAME+HASH+KEY (https://c2sp.org/signed-note).

    They are from GET /v1/audit/keys or, better, from a place that whoever runs the server
    cannot change. Raises ValueError for a text that is not a key.
    """
    return AuditLogKeys(tuple(parse_key(key) for key in keys))


def verify_consistency(earlier: AuditCheckpoint, later: AuditCheckpoint, hashes: Sequence[bytes]) -> None:
    """Checks that a later checkpoint's log begins with an earlier one's: that nothing was changed between.

    Both checkpoints are from :meth:`AuditLogKeys.verify_checkpoint`, the hashes from
    GET /v1/audit/consistency (RFC 6962 §2.1.2). Raises :class:`NotProven`.
    """
    if earlier.origin != later.origin:
        raise NotProven(f"the checkpoints are of two logs, {earlier.origin} and {later.origin}")
    if not 1 <= earlier.size <= later.size:
        raise NotProven(f"a log of {later.size} events does not begin with one of {earlier.size}")
    if any(len(h) != 32 for h in hashes) or not continues(earlier.root, earlier.size, later.root, later.size, hashes):
        raise NotProven(f"the log of {later.size} events does not begin with the one of {earlier.size} signed before")


def _parse(proof: bytes) -> tuple[bytes, int, list[bytes], bytes]:
    """Returns a proof's leaf, index, path and checkpoint."""
    text = text_of(proof, _MAX_PROOF)
    head, found, signed = text.partition("\n\n")
    if not text.startswith(_HEADER) or not found:
        raise NotProven("not a proof (https://c2sp.org/tlog-proof)")
    extra, index, *lines = [*head[len(_HEADER) :].split("\n"), ""]
    leaf = decode_base64(extra.removeprefix("extra ")) if extra.startswith("extra ") else None
    match = _INDEX.fullmatch(index)
    if leaf is None or match is None:
        raise NotProven("the proof does not have an event and its index")
    path = [decode_hash(line) for line in lines[:-1]]
    hashes = [h for h in path if h is not None]
    if len(hashes) != len(path):
        raise NotProven("a line is not a hash in base64")
    return leaf, int(match[1]), hashes, signed.encode()
