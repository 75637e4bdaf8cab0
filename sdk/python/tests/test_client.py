"""What the cases do not say: bounds, secrets, concurrency, and answers that are forged."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import servers
import tollgate as sdk
from conftest import People
from servers import Script
from tollgate._connection import Proxies
from tollgate._paths import Paths

KEY = "tg_the-services-own-key"
TOKEN = "alice.token"


def test_values_that_no_call_has_filled_in_allow_nothing() -> None:
    assert not sdk.Decision().allowed and not sdk.Verification().active and not sdk.LimitCheck().allowed
    with pytest.raises(sdk.PermissionDenied):
        sdk.Decision().raise_if_refused()
    with pytest.raises(sdk.RateLimited):
        sdk.LimitCheck().raise_if_refused()


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("CREDENTIAL_EXPIRED", sdk.Unauthenticated),
        ("PERMISSION_MISSING", sdk.PermissionDenied),
        ("SOMETHING_NEW", sdk.PermissionDenied),
        ("LIMITED", sdk.RateLimited),
    ],
)
def test_refusals_as_errors(reason: str, error: type[sdk.TollgateError]) -> None:
    refused = sdk.Decision(reason=reason, retry_after=3.5)
    with pytest.raises(error) as raised:
        refused.raise_if_refused()
    assert raised.value.decision is refused and raised.value.reason == reason
    assert raised.value.retry_after == (3.5 if reason == "LIMITED" else 0)
    sdk.Decision(allowed=True, reason="OK").raise_if_refused()


def test_no_secret_is_shown() -> None:
    with sdk.Client("http://localhost", api_key=KEY) as client:
        bound = client.as_(TOKEN)
        request = sdk.AuthorizeRequest("orders:read", credential=TOKEN)
        for text in (repr(client), str(client), repr(bound), repr(request), repr(client._http)):
            assert KEY not in text and TOKEN not in text
        with pytest.raises(TypeError):
            pickle.dumps(client)


def test_signatures_are_shown() -> None:
    kinds: tuple[Any, ...] = (sdk.Client, sdk.AsyncClient)
    for kind in kinds:
        assert "credential" in inspect.signature(kind.authorize).parameters
        assert "self" not in inspect.signature(kind("http://localhost", api_key=KEY).authorize).parameters


@pytest.mark.parametrize(
    "body",
    [
        {"allowed": True, "reason": "REASON_OK"},
        {"allowed": True, "principal": {"username": "alice"}},
        {"allowed": "true", "principal": {"userId": "1"}},
        {"allowed": 1, "principal": {"userId": "1"}},
        {},
        [],
        "null",
        {"allowed": True, "principal": {"userId": 7}},
    ],
)
def test_a_forged_answer_allows_nothing(body: Any) -> None:
    answer = {"status": 200, "header": {"Content-Type": "application/json"}, "body": json.dumps(body)}
    with servers.scripted(Script([answer])) as script, sdk.Client(script.url, api_key=KEY) as client:
        try:
            allowed = client.authorize("orders:read", credential=TOKEN).allowed
        except sdk.TollgateError as error:
            allowed = False
            assert not isinstance(error, sdk.Unavailable)
        assert not allowed


def test_a_compressed_answer_is_not_unpacked() -> None:
    answer = {"status": 200, "header": {"Content-Type": "application/json", "Content-Encoding": "gzip"}, "body": "x"}
    with servers.scripted(Script([answer])) as script, sdk.Client(script.url, api_key=KEY) as client:
        with pytest.raises(sdk.TollgateError, match="compressed"):
            client.verify(TOKEN)


@pytest.mark.parametrize("kind", [sdk.Client, sdk.AsyncClient])
async def test_an_answer_that_is_too_large(kind: Any) -> None:
    body = json.dumps({"active": True, "principal": {"userId": "1", "username": "a" * (1 << 20)}})
    with servers.scripted(Script([{"status": 200, "header": {"Content-Type": "application/json"}, "body": body}])) as script:
        client = kind(script.url, api_key=KEY)
        with pytest.raises(sdk.TollgateError, match="more than 1 MiB"):
            result = client.verify(TOKEN)
            await result if inspect.isawaitable(result) else None
        closing = client.close() if kind is sdk.Client else client.aclose()
        await closing if inspect.isawaitable(closing) else None


@pytest.mark.parametrize("kind", [sdk.Client, sdk.AsyncClient])
async def test_an_answer_that_drips(kind: Any) -> None:
    """Each byte comes in time, all of them never."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
                while not ended.wait(0.02):
                    try:
                        peer.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        client = kind(f"http://127.0.0.1:{listener.getsockname()[1]}", api_key=KEY, timeout=0.3, retries=0)
        began = time.monotonic()
        with pytest.raises(sdk.Unavailable) as late:
            result = client.verify(TOKEN)
            await result if inspect.isawaitable(result) else None
        assert late.value.code == "deadline_exceeded" and time.monotonic() - began < 5
        closing = client.close() if kind is sdk.Client else client.aclose()
        await closing if inspect.isawaitable(closing) else None
        ended.set()
        thread.join()


async def test_a_call_that_is_canceled_opens_nothing(people: People) -> None:
    with servers.scripted(Script(["silent"])) as script:
        async with sdk.AsyncClient(script.url, api_key=KEY, on_unavailable="allow") as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.authorize("orders:read", user_id="1"), 0.1)
            assert client.failed_open == 0


def test_calls_that_failed_open_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with sdk.Client(servers.unreachable(), api_key=KEY, retries=0, on_unavailable="allow") as client:
        for _ in range(3):
            assert client.authorize("orders:read", credential="tg_alice").reason == "UNAVAILABLE"
        assert client.failed_open == 3
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "fail open" in record.message and "tg_alice" not in record.message


def test_an_outage_is_not_asked_for_by_retries() -> None:
    """Hundred calls make at most eleven more requests."""
    with servers.scripted(Script([{"status": 503}])) as script, sdk.Client(script.url, api_key=KEY) as client:
        for _ in range(100):
            with pytest.raises(sdk.Unavailable):
                client.verify(TOKEN)
        assert 100 < len(script.requests) <= 111


def test_each_call_has_a_key_of_its_own() -> None:
    refused = {"status": 200, "body": {"allowed": False, "reason": "REASON_PERMISSION_MISSING"}}
    with servers.scripted(Script(["lose", refused], servers.unreachable())) as script:
        with sdk.Client(script.url, api_key=KEY) as client:
            script.entries = [{"status": 503}, refused]
            for _ in range(2):
                client.authorize("orders:read", credential=TOKEN)
            client.authorize("orders:read", credential=TOKEN, recheck=True)
    keys = [json.loads(body).get("idempotencyKey") for _, body in script.requests]
    assert keys[0] and keys[0] == keys[1] and keys[2] not in (None, keys[0]) and keys[3] is None


def test_attributes_that_json_cannot_say() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with servers.scripted(Script([{"status": 503}])) as script, sdk.Client(script.url, api_key=KEY) as client:
        for value in (float("nan"), object(), b"x", loop, "\ud800", {1j: 2}):
            with pytest.raises(sdk.InvalidArgument):
                client.authorize("orders:read", credential=TOKEN, resource_attributes={"x": value})
        assert not script.requests


def test_threads_share_a_client(people: People) -> None:
    with sdk.Client(people.server.url, api_key=people.service) as client, ThreadPoolExecutor(16) as threads:

        def ask(i: int) -> tuple[str, bool]:
            token = (people.alice, people.carol)[i % 2]
            decision = client.as_(token).authorize("orders:read")
            return decision.principal.username if decision.principal else "", decision.allowed

        answers = list(threads.map(ask, range(200)))
    assert answers == [("alice", True), ("carol", False)] * 100


async def test_tasks_share_a_client(people: People) -> None:
    async with people.client() as client:
        asked = [client.as_((people.alice, people.carol)[i % 2]).authorize("orders:read") for i in range(200)]
        answers = await asyncio.gather(*asked)
    assert [d.principal and d.principal.username for d in answers] == ["alice", "carol"] * 100


@pytest.mark.parametrize(
    ("peer", "forwarded", "want"),
    [
        ("192.0.2.7", "203.0.113.9", "192.0.2.7"),  # not a proxy
        ("127.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "6.6.6.6, garbage", "127.0.0.1"),
        ("127.0.0.1", "6.6.6.6, garbage, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "10.1.2.3, 10.1.2.4", "10.1.2.3"),
        ("127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "203.0.113.9", "fe80::1"),
        ("testclient", "203.0.113.9", ""),
    ],
)
def test_whose_address(peer: str, forwarded: str, want: str) -> None:
    scope: dict[str, Any] = {"client": (peer, 4711), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    assert Proxies(["127.0.0.1", "10.0.0.0/8"]).caller(scope) == want
    assert Proxies([]).caller({"client": None}) == ""


def test_the_rule_that_is_meant() -> None:
    paths = Paths({"GET /a/{x}": "x:1", "POST /a/b": "x:2", "* /files/{rest...}": "x:3", "GET /": "x:4"})

    def found(method: str, path: str) -> Any:
        rule: Any = paths.find(method, path)
        return rule and (rule[0].permission, rule[1])

    assert found("GET", "/a/c") == ("x:1", {"x": "c"})
    assert found("HEAD", "/a/c") == ("x:1", {"x": "c"})
    assert found("POST", "/a/b") == ("x:2", {})
    assert found("GET", "/a/b") is None  # the methods of the pattern that is meant are all there are
    assert found("PUT", "/files/a/b") == ("x:3", {"rest": "a/b"})
    assert found("GET", "/") == ("x:4", {})
    for path in ("", "a/c", "/a", "/a/", "/files/a/../b", "/files//b", "/a/./c", "/files/a\\b"):
        assert found("GET", path) is None
    for key in ("/a", "GET a", "get /a", "GET /a{x}", "GET /{x...}/b"):
        with pytest.raises(ValueError):
            Paths({key: "x:1"})
    with pytest.raises(ValueError):
        Paths({"GET /{a}": "x:1", "GET /{b}": "x:2"})
