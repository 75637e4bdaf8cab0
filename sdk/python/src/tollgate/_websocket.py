"""WebSockets whose callers are checked again while they last."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tollgate.aio import AsyncClient
from tollgate.errors import TollgateError
from tollgate.types import AuthorizeRequest

log = logging.getLogger("tollgate")

CLOSE = {"type": "websocket.close", "code": 1008, "reason": ""}


class Watched:
    """One WebSocket. After a refusal the application receives its end, and sends nothing more."""

    def __init__(
        self,
        client: AsyncClient,
        request: AuthorizeRequest,
        every: float,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._client, self._every, self._headers = client, every, headers
        # Limits do not count it again, and an outage that lasts ends it.
        self._request = dataclasses.replace(request, recheck=True, on_unavailable="deny")
        self._server_receive, self._server_send = receive, send
        self._refused = asyncio.Event()
        self._ended = False  # a close was sent, by the application or here

    async def run(self, app: Callable[[Any, Any, Any], Awaitable[None]], scope: Any) -> None:
        watch = asyncio.ensure_future(self._watch())
        try:
            await app(scope, self._receive, self._send)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self) -> None:
        try:
            await self._follow()
        except Exception:  # nobody looks at the caller any more
            log.exception("a WebSocket was closed because its caller could not be checked")
        self._refused.set()
        if not self._ended:
            self._ended = True
            with contextlib.suppress(Exception):  # the peer has gone
                await self._server_send(CLOSE)

    async def _follow(self) -> None:
        """Returns when the caller may no longer have the WebSocket.

        Asks when half of the time has passed, which leaves time for another try.
        """
        answered, wait = time.monotonic(), self._every / 2
        while True:
            # The jitter keeps the connections of a service from asking all at once.
            await asyncio.sleep(wait - random.uniform(0, wait / 4))
            asked = time.monotonic()
            try:
                decision = await self._client.decide(self._request)
            except TollgateError as error:
                if time.monotonic() - answered < self._every:
                    wait = self._every / 8
                    continue
                log.error("a WebSocket was closed because it could not be decided about: %s", error)
                return
            if not decision.allowed:
                return
            answered, wait = asked, self._every / 2

    async def _receive(self) -> Any:
        if self._refused.is_set():
            return {"type": "websocket.disconnect", "code": 1008}
        message = asyncio.ensure_future(self._server_receive())
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait({message, refused}, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.is_set():
                return {"type": "websocket.disconnect", "code": 1008}
            return message.result()
        finally:
            for task in (message, refused):
                task.cancel()

    async def _send(self, message: Any) -> None:
        if self._refused.is_set():
            if message["type"] == "websocket.close":
                return
            raise OSError("tollgate: the caller may no longer have this WebSocket")
        if message["type"] == "websocket.close":
            self._ended = True
        if message["type"] == "websocket.accept" and self._headers:
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._server_send(message)
