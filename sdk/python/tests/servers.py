"""Starts the real binary, and servers that answer by a script."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tollgate.client import _trace

REPOSITORY = Path(__file__).parents[3]
HTTP = httpx.Client(timeout=20)  # of the tests themselves
AT_ONCE = {"trace": _trace}
PASSWORD = "correct horse battery"
GREETING = re.compile(r"Tollgate answers on (http://\S+)")


def binary(folder: Path) -> str:
    if given := os.environ.get("TOLLGATE_BINARY"):
        return given
    file = folder / "tollgate"
    subprocess.run(["go", "build", "-o", file, "./server"], cwd=REPOSITORY, check=True)
    return str(file)


@dataclass
class Tollgate:
    """A running server, and its REST API as its administrator."""

    url: str
    process: subprocess.Popen[str]
    token: str = ""

    def rest(self, method: str, path: str, body: Any = None, credential: str | None = None) -> dict[str, Any]:
        token = self.token if credential is None else credential
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = HTTP.request(method, self.url + path, json=body, headers=headers, extensions=AT_ONCE)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        found = answer.json()
        assert isinstance(found, dict)
        return found

    def get(self, path: str) -> httpx.Response:
        return HTTP.get(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, extensions=AT_ONCE)

    def login(self, username: str) -> str:
        body = {"username": username, "password": PASSWORD}
        return str(self.rest("POST", "/v1/auth/login", body, "")["accessToken"])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def tollgate(program: str, folder: Path, env: Mapping[str, str] | None = None, listen: str = "127.0.0.1:0") -> Iterator[Tollgate]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "--listen", listen, "--metrics-listen="],
            cwd=folder,
            env={"TOLLGATE_BCRYPT_COST": "4", "TOLLGATE_ADMIN_PASSWORD": PASSWORD, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        server = Tollgate("", process)
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:  # ends with the program
                said += line
                if found := GREETING.search(said):
                    server.url = found[1]
                    break
            assert server.url, (folder / "log").read_text()
            server.token = server.login("admin")
            yield server
        finally:
            server.stop()
            assert process.stdout is not None
            process.stdout.close()


def unreachable() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


@dataclass
class Script:
    """A server that each request takes the next entry of; see sdk/testdata/README.md."""

    entries: Sequence[Any]
    behind: str = ""  # the real server
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    url: str = ""

    def next(self, path: str, body: bytes) -> Any:
        self.requests.append((path, body))
        return self.entries[min(len(self.requests), len(self.entries)) - 1]


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[Script]:
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body at once

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            entry = script.next(self.path, body)
            if entry == "silent":
                ended.wait(20)
                self.close_connection = True
                return
            if isinstance(entry, str):
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
                answer = HTTP.post(script.behind + self.path, content=body, headers=headers, extensions=AT_ONCE)
                if entry == "lose":
                    self.close_connection = True
                    return
                entry = {"status": answer.status_code, "header": dict(answer.headers), "body": answer.text}
            header = dict(entry.get("header", {}))
            text = entry.get("body", "")
            if not isinstance(text, str):
                text, header = json.dumps(text), {"Content-Type": "application/json", **header}
            sent = text.encode()
            self.send_response(entry["status"])
            for name, value in header.items():
                if name.lower() not in ("content-length", "date", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(sent)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
