"""What becomes of calls that Tollgate does not answer about."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict

from tollgate._credential import Kind, kind_of, may_be_good
from tollgate.errors import TollgateError, Unavailable
from tollgate.types import AuthorizeRequest, Decision, OnUnavailable

log = logging.getLogger("tollgate")

MAX_REFUSED = 20_000  # credentials that Tollgate refused are remembered
MAX_RECORDING = 1.0  # seconds that Tollgate tries to record a refusal before it says that it cannot

# Failures after which Tollgate cannot have decided. It also fails when it has refused a
# call and cannot record that, AUDIT_BUSY for one, which a flood of refusals can bring about.
_UNDECIDED = frozenset({"", "DEADLINE_EXCEEDED", "DEPENDENCY_DOWN", "OVERLOADED", "STARTING", "DRAINING"})

_NOT_GOOD = frozenset(
    {
        "CREDENTIAL_INVALID",
        "CREDENTIAL_EXPIRED",
        "CREDENTIAL_REVOKED",
        "USER_DISABLED",
        "USER_UNKNOWN",
        "WRONG_AUDIENCE",
    }
)


class Failures:
    """What a client keeps for calls that fail open. It is safe for concurrent use."""

    def __init__(self, mode: OnUnavailable, timeout: float) -> None:
        self._mode, self._timeout = mode, timeout
        self._lock = threading.Lock()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._logged = 0.0
        self.opened = 0

    def decide(self, request: AuthorizeRequest, credential: str, failed: TollgateError) -> Decision:
        """Returns the decision that nobody made, or raises ``failed``."""
        if not self._open(request) or not self._may_open(request, failed) or self._known_bad(request, credential):
            raise failed
        with self._lock:
            self.opened += 1
            opened, now = self.opened, time.monotonic()
            due = self._logged == 0.0 or now - self._logged >= 1
            if due:
                self._logged = now
        if due:
            log.error(
                "calls are allowed without a decision, because Tollgate does not answer and they fail open: %d, %s",
                opened,
                failed,
            )
        return Decision(allowed=True, reason="UNAVAILABLE")

    def learn(self, request: AuthorizeRequest, credential: str, decision: Decision) -> None:
        """Remembers a credential that Tollgate refused, and forgets one that is good again."""
        if not self._open(request) or not credential or decision.reason == "LIMITED":
            return
        digest = _digest(credential)
        with self._lock:
            self._refused.pop(digest, None)
            if decision.reason in _NOT_GOOD:
                self._refused[digest] = None
                if len(self._refused) > MAX_REFUSED:
                    self._refused.popitem(last=False)

    def _open(self, request: AuthorizeRequest) -> bool:
        return (request.on_unavailable or self._mode) == "allow"

    def _may_open(self, request: AuthorizeRequest, failed: TollgateError) -> bool:
        """Says whether a failure is Tollgate's, and not one that the caller can bring about."""
        if not isinstance(failed, Unavailable) or failed.reason not in _UNDECIDED or request.min_revision:
            return False
        return failed.code != "deadline_exceeded" or self._timeout >= MAX_RECORDING

    def _known_bad(self, request: AuthorizeRequest, credential: str) -> bool:
        if request.user_id:
            return False
        kind = kind_of(credential)
        if kind is Kind.NONE or kind is Kind.ACCESS_TOKEN and not may_be_good(credential):
            return True
        with self._lock:
            return _digest(credential) in self._refused


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode(errors="replace")).digest()
