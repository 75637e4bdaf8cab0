"""What calls fail with.

The same classes say that a call to Tollgate failed, which is about the service's own key
and request, and, raised by ``raise_if_refused``, that Tollgate refused a caller. Only the
latter have a ``decision``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tollgate.types import Decision, LimitCheck


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field of a request."""

    field: str  # "limits[0].rate"
    message: str


class TollgateError(Exception):
    """The error of every call."""

    code: str  # "unavailable", as in Connect's protocol
    reason: str  # stable, for programs: "LIMIT_NOT_FOUND"; empty when Tollgate did not answer
    message: str  # for people
    request_id: str  # finds the call in Tollgate's log
    retry_after: float  # seconds until another try may help; 0: not said
    violations: tuple[Violation, ...]
    decision: Decision | LimitCheck | None

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        request_id: str = "",
        retry_after: float = 0.0,
        violations: tuple[Violation, ...] = (),
        decision: Decision | LimitCheck | None = None,
    ) -> None:
        super().__init__(f"tollgate: {code}: {message}" + (f" (request {request_id})" if request_id else ""))
        self.code, self.message, self.reason, self.request_id = code, message, reason, request_id
        self.retry_after, self.violations, self.decision = retry_after, violations, decision


class Unauthenticated(TollgateError):
    """The credential is missing or not good."""


class PermissionDenied(TollgateError):
    """The credential is good, and not enough."""


class RateLimited(TollgateError):
    """A limit is used up; ``retry_after`` seconds later it may not be. 0: waiting never helps."""


class Unavailable(TollgateError):
    """Tollgate did not answer: it is down, not reachable, or slower than the timeout.

    The same call may succeed later.
    """


class InvalidArgument(TollgateError):
    """The request is not one that Tollgate takes; ``field`` says where, if it is about one."""

    @property
    def field(self) -> str:
        return self.violations[0].field if self.violations else ""


_CLASSES: dict[str, type[TollgateError]] = {
    "unauthenticated": Unauthenticated,
    "permission_denied": PermissionDenied,
    "resource_exhausted": RateLimited,
    "unavailable": Unavailable,
    "deadline_exceeded": Unavailable,
    "invalid_argument": InvalidArgument,
}


def class_of(code: str, reason: str) -> type[TollgateError]:
    if reason == "TOO_LARGE":  # has the code of a limit, and no time to wait for
        return InvalidArgument
    return _CLASSES.get(code, TollgateError)


def invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "invalid_argument", f"{field}: {message}", reason="INVALID_FIELD", violations=(Violation(field, message),)
    )
