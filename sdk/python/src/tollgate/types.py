"""What is asked and answered. All values are immutable; those that no call has filled in allow nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tollgate.errors import PermissionDenied, RateLimited, TollgateError, Unauthenticated

OnUnavailable = Literal["deny", "allow"]
Outcome = Literal["SUCCESS", "DENIED", "FAILURE"]

# The reasons of refusals that are about the credential rather than what it allows.
CREDENTIAL_REASONS = frozenset(
    {
        "CREDENTIAL_MISSING",
        "CREDENTIAL_INVALID",
        "CREDENTIAL_EXPIRED",
        "CREDENTIAL_REVOKED",
        "USER_DISABLED",
        "USER_UNKNOWN",
        "WRONG_AUDIENCE",
        "SECOND_FACTOR_REQUIRED",
        "SIGN_IN_REQUIRED",
    }
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or service that a credential belongs to."""

    user_id: str
    username: str
    service: bool = False  # a program rather than a person
    roles: tuple[str, ...] = ()  # in force at the decision, sorted: for showing
    session_id: str = ""  # set for an access token
    api_key_id: str = ""  # set for an API key
    scopes: tuple[str, ...] = ()  # what an API key is narrowed to; empty: not narrowed
    expires_at: datetime | None = None  # of the credential; None: never
    audience: str = ""  # the service that the access token is for (RFC 8707); empty for an API key
    amr: tuple[str, ...] = ()  # how the user signed in (RFC 8176): "pwd", "otp", "mfa"; empty for an API key
    auth_time: datetime | None = None  # when the user signed in; None for an API key


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How much of one limit a caller has used."""

    name: str = ""
    limit: int = 0  # calls at once when nothing is used
    remaining: int = 0  # calls that would pass right now
    reset: float = 0.0  # seconds until nothing is used any more
    exceeded: bool = False  # the limit refused this call, or would have
    shadow: bool = False  # the limit counts and never refuses


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeRequest:
    """A call to decide about.

    Without a credential and a user it counts against the limits of ``ip`` and is refused.
    """

    permission: str = field(default="", kw_only=False)
    """What the call needs, without wildcards: ``"orders:read"``."""
    credential: str | None = field(default=None, repr=False)
    """What the caller presented, an access token or an API key. None is that of
    :meth:`tollgate.Client.as_`, or nobody's."""
    user_id: str = ""
    """For a caller whom this service has authenticated by itself."""
    any_of: Sequence[str] = ()
    """Permissions of which one suffices, at most 16, instead of ``permission``."""
    all_of: Sequence[str] = ()
    """Permissions that are all needed, at most 16, instead of ``permission``."""
    authenticated: bool = False
    """Any good credential will do; ``permission`` is then only the name that limits match."""
    self_id: str = ""
    """The user that the call is about: a person who is signed in as this user needs no permission."""
    self_only: bool = False
    """Only the person who is signed in as ``self_id`` passes."""
    resource: str = ""
    """What the call is about, for the audit log and for conditions: ``"orders/42"``; cut after 256 bytes."""
    resource_attributes: Mapping[str, Any] | None = None
    """What conditions read of the resource: what JSON can say, at most 8 KiB."""
    action_properties: Mapping[str, Any] | None = None
    """What conditions read of the action: what JSON can say, at most 8 KiB."""
    context: Mapping[str, str] | None = None
    """What custom limits count by and conditions read: at most 32 entries, values up to 256 characters."""
    ip: str = ""
    """The caller's address; empty leaves limits per address out."""
    user_agent: str = ""
    request_id: str = ""
    cost: int = 0
    """How much the call counts against limits; 0 means 1."""
    recheck: bool = False
    """The call was allowed before and goes on: limits do not count it again."""
    min_revision: int = 0
    """Decide on a state at least as new as the write that answered with this revision."""
    on_unavailable: OnUnavailable | None = None
    """What becomes of the call when Tollgate does not answer; None: as the client says."""

    def named(self) -> str:
        """What the call needs, for people."""
        if self.any_of:
            return " or ".join(self.any_of)
        return " and ".join(self.all_of) or self.permission


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer about a call."""

    allowed: bool = False
    reason: str = ""  # "OK", "PERMISSION_MISSING": a newer Tollgate may give others
    principal: Principal | None = None  # set when the credential is good; None with the reason UNAVAILABLE
    retry_after: float = 0.0  # seconds, with the reason LIMITED; 0: waiting never helps
    limits: tuple[LimitStatus, ...] = ()  # those that counted the call, the most restrictive first
    revision: int = 0  # the decision is at least as new as this
    grant: str = ""  # the grant that decided, where one with a condition or a deny did

    def raise_if_refused(self) -> None:
        """Raises Unauthenticated, PermissionDenied or RateLimited when the call is not allowed."""
        if self.allowed:
            return
        if self.reason == "LIMITED":
            raise _over_a_limit(self, self.retry_after)
        kind: tuple[type[TollgateError], str] = (PermissionDenied, "permission_denied")
        if self.reason in CREDENTIAL_REASONS:
            kind = (Unauthenticated, "unauthenticated")
        raise kind[0](kind[1], f"refused: {self.reason}", reason=self.reason, decision=self)


def _over_a_limit(answer: Decision | LimitCheck, retry_after: float) -> RateLimited:
    return RateLimited(
        "resource_exhausted", "too many calls", reason="LIMITED", retry_after=retry_after, decision=answer
    )


@dataclass(frozen=True, slots=True)
class Verification:
    """Whose credential it is, and whether it is good now."""

    active: bool = False
    reason: str = ""
    principal: Principal | None = None  # set when the credential is good
    revision: int = 0  # the answer is at least as new as this


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """The answer about one limit."""

    allowed: bool = False
    status: LimitStatus = LimitStatus()
    retry_after: float = 0.0  # seconds, when refused; 0: waiting never helps

    def raise_if_refused(self) -> None:
        """Raises RateLimited when the call is not within the limit."""
        if not self.allowed:
            raise _over_a_limit(self, self.retry_after)


@dataclass(frozen=True, slots=True)
class GrantTrace:
    """One grant that an explanation looked at."""

    role: str = ""  # that the caller holds
    from_role: str = ""  # that the grant stands in: the same, or one that it inherits
    permission: str = ""
    condition: str = ""
    effect: str = ""  # "ALLOW", "DENY"
    verdict: str = ""  # "MATCHED", "NO_MATCH", "CONDITION_FALSE", "CONDITION_ERROR", "DENY"
    detail: str = ""
    read: Mapping[str, str] = field(default_factory=dict)  # what the condition read


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a call would be decided."""

    allowed: bool = False
    reason: str = ""
    principal: Principal | None = None
    grants: tuple[GrantTrace, ...] = ()
    truncated: bool = False  # there are more grants than these
    limits: tuple[LimitStatus, ...] = ()
    scopes: tuple[str, ...] = ()
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of the audit log."""

    action: str = field(kw_only=False)  # in your own words, with a dot: "order.cancel"
    outcome: Outcome = field(kw_only=False)
    actor: Principal | None = None  # who did it; None: not known
    reason: str = ""  # why, for other outcomes than SUCCESS
    resource: str = ""  # what it was done to: "orders/42"
    ip: str = ""
    user_agent: str = ""
    request_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)  # further facts; never a secret
