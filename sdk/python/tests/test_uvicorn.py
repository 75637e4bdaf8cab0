"""The ASGI middleware in uvicorn: what goes over the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from conftest import People
from test_asgi import application

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: orders\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


@pytest.fixture(scope="module")
def address(people: People) -> Iterator[tuple[str, int]]:
    app = application(people.client(), recheck=0.2)
    server = uvicorn.Server(uvicorn.Config(app, ws="wsproto", http="h11", lifespan="on", log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))  # which holds connections until the server takes them
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()


def exchange(address: tuple[str, int], text: str, ended: str = "\r\n\r\n") -> str:
    with socket.create_connection(address, timeout=20) as s:
        s.sendall(text.encode())
        got = b""
        while ended.encode() not in got and (part := s.recv(4096)):
            got += part
    return got.decode("latin-1")


def authorization(credential: str) -> str:
    return f"Authorization: Bearer {credential}\r\n"


def test_a_websocket_is_refused_in_its_handshake(people: People, address: tuple[str, int]) -> None:
    for path, headers in (
        ("/feed", ""),
        ("/feed", authorization(people.carol)),
        ("/feed", authorization(people.alice) * 2),
        ("/other", authorization(people.alice)),
    ):
        assert exchange(address, HANDSHAKE.format(path=path, headers=headers)).startswith("HTTP/1.1 403")


def test_a_websocket_ends_with_its_session(people: People, address: tuple[str, int]) -> None:
    token = people.server.login("alice")
    with socket.create_connection(address, timeout=20) as s:
        s.sendall(HANDSHAKE.format(path="/feed", headers=authorization(token)).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += s.recv(4096)
        assert got.startswith(b"HTTP/1.1 101")
        people.server.rest("POST", "/v1/auth/logout", {}, token)
        assert s.recv(4096) == b"\x88\x02\x03\xf0"  # a close frame, 1008


@pytest.mark.parametrize(
    "path", ["/healthz/../orders/42", "//orders/42", "/orders/%2e%2e/admin", "/healthz%2f..%2fadmin", "/orders;/42", "*"]
)
def test_a_path_that_is_read_in_two_ways(people: People, address: tuple[str, int], path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: orders\r\n{authorization(people.alice)}\r\n"
    assert exchange(address, request, "}").startswith("HTTP/1.1 403")


def test_refused_before_the_body(people: People, address: tuple[str, int]) -> None:
    request = f"POST /orders/42 HTTP/1.1\r\nHost: orders\r\nContent-Length: 1000000\r\n{authorization(people.alice)}\r\n"
    got = exchange(address, request, "}]}")
    assert got.startswith("HTTP/1.1 403") and "PERMISSION_MISSING" in got
