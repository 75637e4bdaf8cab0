"""Which calls are made again, and when."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tollgate._requests import Call
from tollgate.errors import TollgateError

FIRST_BACKOFF = 0.025  # seconds: the longest wait before a first retry; each further one is twice that
# A retry costs one of BUDGET, which each answer gives back SHARE of: in an outage a
# client makes a tenth more requests, not several times as many.
BUDGET, SHARE = 10.0, 0.1
KEY_LASTS = 8.0  # Tollgate knows a call's key for 10 s



class Retries:
    """Says when to make the calls of one client again. It is safe for concurrent use."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._spent = 0.0

    def begin(self, call: Call, timeout: float) -> Attempts:
        return Attempts(self, call, timeout)

    def take(self) -> bool:
        with self._lock:
            if self._spent > BUDGET - 1:
                return False
            self._spent += 1
            return True

    def answered(self) -> None:
        with self._lock:
            self._spent = max(0.0, self._spent - SHARE)


class Attempts:
    """The tries of one call, all within its timeout."""

    def __init__(self, retries: Retries, call: Call, timeout: float, now: Callable[[], float] = time.monotonic) -> None:
        self._retries, self._call, self._now = retries, call, now
        self._began = now()
        self.deadline = self._began + timeout
        self._tried = 0

    def wait(self, failed: TollgateError, unsent: bool) -> float | None:
        """Returns after how many seconds to try again; None: not any more."""
        tried, self._tried = self._tried, self._tried + 1
        if tried >= self._retries.most or not self._repeatable(failed, unsent):
            return None
        wait = failed.retry_after + random.uniform(0, FIRST_BACKOFF * 2**tried)
        then = self._now() + wait
        if then >= self.deadline or self._call.keyed and then - self._began > KEY_LASTS or not self._retries.take():
            return None
        return wait

    def _repeatable(self, failed: TollgateError, unsent: bool) -> bool:
        if failed.code != "unavailable":
            return False
        if failed.reason in ("OVERLOADED", "DRAINING"):  # it did nothing
            return failed.retry_after > 0
        return unsent or self._call.repeatable
