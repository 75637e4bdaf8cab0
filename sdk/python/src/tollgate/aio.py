"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

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


class AsyncClient(Base):
    """As :class:`tollgate.Client`, for asyncio: every call ends within ``timeout``.

    It belongs to the event loop that it is first used in. ``transport`` is for TLS
    settings: ``httpx.AsyncHTTPTransport(verify=…, cert=…)``.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        timeout: float = 2.0,
        retries: int = 2,
        on_unavailable: OnUnavailable = "deny",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout, retries, on_unavailable)
        self._http = httpx.AsyncClient(
            headers=self._headers, limits=CONNECTIONS, transport=transport, follow_redirects=False
        )

    @takes_request(AuthorizeRequest)
    async def authorize(self, request: AuthorizeRequest) -> Decision:
        """Decides whether a call may go ahead; takes the fields of :class:`AuthorizeRequest`.

        A refusal is an answer; see :meth:`Decision.raise_if_refused`. With an error there is
        no decision, and the call must not go ahead.
        """
        return await self.decide(request)

    async def decide(self, request: AuthorizeRequest) -> Decision:
        """As :meth:`authorize`, for a request that was made before."""
        credential, call = self._authorize(request)
        try:
            answer = await self._send(call)
        except TollgateError as error:
            failed = error
        else:
            return self._decided(request, credential, answer)
        return self._failures.decide(request, credential, failed)

    async def verify(self, credential: str | None = None) -> Verification:
        """Says whose credential it is, and whether it is good now. A bad one is an answer, not an error."""
        credential = self._credential(credential)
        call = _requests.verify(credential)
        if call is None:
            return Verification(reason="CREDENTIAL_INVALID" if credential else "CREDENTIAL_MISSING")
        return _answers.verification(await self._send(call))

    async def check_limit(self, limit: str, key: str, *, cost: int = 1, peek: bool = False) -> LimitCheck:
        """Counts a call against a limit under a key of your choice; ``peek`` only looks."""
        call = _requests.check_limit(limit, key, cost, peek, self._retries.most > 0)
        return _answers.limit_check(await self._send(call))

    async def record_event(self, event: Event) -> None:
        """Adds an event to the audit log. It is durable when this returns; after an error it may be."""
        await self._send(_requests.record_event(event))

    async def record_events(self, events: Sequence[Event]) -> None:
        """Adds up to 1,000 events, either all or none."""
        await self._send(_requests.record_events(events))

    @takes_request(AuthorizeRequest)
    async def explain(self, request: AuthorizeRequest) -> Explanation:
        """Says how a call would be decided and why; takes what :meth:`authorize` takes. It counts nothing."""
        credential, call = self._explain(request)
        return _answers.explanation(await self._send(call), well_formed(credential))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send(self, call: Call) -> Object:
        attempts = self._begin(call)
        while True:
            result = self._outcome(attempts, await self._once(call, attempts))
            if not isinstance(result, float):
                return result
            await asyncio.sleep(result)

    async def _once(self, call: Call, attempts: Attempts) -> Outcome:
        # A task of its own: asyncio.timeout does not see its own cancellation through anyio 3.
        exchange = asyncio.ensure_future(self._exchange(call))
        try:
            await asyncio.wait({exchange}, timeout=left(attempts))
            return await exchange if exchange.done() else late()
        except FAILURES as error:
            return no_answer(error)
        finally:
            if not exchange.done():
                exchange.cancel()
                await asyncio.wait({exchange}, timeout=1)  # gives its connection back

    async def _exchange(self, call: Call) -> Outcome:
        async with self._http.stream("POST", self._url + call.path, content=call.body, timeout=None) as response:
            body = Body(response)
            async for part in response.aiter_raw():
                if not body.add(part):
                    break
            return body.outcome()
