"""The client for programs without an event loop."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from tollgate import _answers, _requests
from tollgate._answers import Object
from tollgate._base import CONNECTIONS, FAILURES, Base, Body, Outcome, late, left, no_answer, takes_request, well_formed
from tollgate._requests import Call
from tollgate._retry import Attempts
from tollgate.errors import TollgateError
from tollgate.types import (
    AuthorizeRequest,
    Decision,
    Event,
    Explanation,
    LimitCheck,
    OnUnavailable,
    Verification,
)


class Client(Base):
    """Calls one Tollgate. Make one and keep it, because it holds the connections; threads may share it.

    ``timeout`` bounds a call with its retries, in seconds; a peer that sends its headers byte
    by byte can take longer, but not with :class:`AsyncClient`. ``retries`` is how often a
    call is made again at most, where that does nothing twice. ``transport`` is for TLS
    settings: ``httpx.HTTPTransport(verify=…, cert=…)``.

    ``on_unavailable="allow"`` allows calls that Tollgate does not answer about, with the
    reason UNAVAILABLE and no principal: nobody has verified the credential. Whoever can cut
    this service off from Tollgate then gets in with anything that looks like a credential.
    Choose it only for what may be public. Calls without a credential, or with one that has
    expired or was refused a short while ago, and refusals that could not be recorded, stay
    refused.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        timeout: float = 2.0,
        retries: int = 2,
        on_unavailable: OnUnavailable = "deny",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout, retries, on_unavailable)
        self._http = httpx.Client(
            headers=self._headers, limits=CONNECTIONS, transport=transport, follow_redirects=False
        )

    @takes_request(AuthorizeRequest)
    def authorize(self, request: AuthorizeRequest) -> Decision:
        """Decides whether a call may go ahead; takes the fields of :class:`AuthorizeRequest`.

        A refusal is an answer; see :meth:`Decision.raise_if_refused`. With an error there is
        no decision, and the call must not go ahead.
        """
        return self.decide(request)

    def decide(self, request: AuthorizeRequest) -> Decision:
        """As :meth:`authorize`, for a request that was made before."""
        credential, call = self._authorize(request)
        try:
            answer = self._send(call)
        except TollgateError as error:
            failed = error
        else:
            return self._decided(request, credential, answer)
        return self._failures.decide(request, credential, failed)

    def verify(self, credential: str | None = None) -> Verification:
        """Says whose credential it is, and whether it is good now. A bad one is an answer, not an error."""
        credential = self._credential(credential)
        call = _requests.verify(credential)
        if call is None:
            return Verification(reason="CREDENTIAL_INVALID" if credential else "CREDENTIAL_MISSING")
        return _answers.verification(self._send(call))

    def check_limit(self, limit: str, key: str, *, cost: int = 1, peek: bool = False) -> LimitCheck:
        """Counts a call against a limit under a key of your choice; ``peek`` only looks."""
        call = _requests.check_limit(limit, key, cost, peek, self._retries.most > 0)
        return _answers.limit_check(self._send(call))

    def record_event(self, event: Event) -> None:
        """Adds an event to the audit log. It is durable when this returns; after an error it may be."""
        self._send(_requests.record_event(event))

    def record_events(self, events: Sequence[Event]) -> None:
        """Adds up to 1,000 events, either all or none."""
        self._send(_requests.record_events(events))

    @takes_request(AuthorizeRequest)
    def explain(self, request: AuthorizeRequest) -> Explanation:
        """Says how a call would be decided and why; takes what :meth:`authorize` takes. It counts nothing."""
        credential, call = self._explain(request)
        return _answers.explanation(self._send(call), well_formed(credential))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call) -> Object:
        attempts = self._begin(call)
        while True:
            result = self._outcome(attempts, self._once(call, attempts))
            if not isinstance(result, float):
                return result
            time.sleep(result)

    def _once(self, call: Call, attempts: Attempts) -> Outcome:
        try:
            with self._http.stream(
                "POST", self._url + call.path, content=call.body, timeout=left(attempts), extensions={"trace": _trace}
            ) as response:
                body = Body(response)
                for part in response.iter_raw():
                    if not body.add(part):
                        break
                    if time.monotonic() > attempts.deadline:
                        return late()
                return body.outcome()
        except FAILURES as error:
            return no_answer(error)


def _trace(event: str, info: Any) -> None:
    """Has headers and body leave at once: before httpcore 0.17 the body waited for an ACK, 40 ms."""
    if event == "connection.connect_tcp.complete":
        connection = info["return_value"].get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
