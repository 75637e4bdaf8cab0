"""The wheel that is published, and the examples in docs/python.md."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import People
from servers import REPOSITORY

PACKAGE = REPOSITORY / "sdk" / "python"


def test_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("tollgate/")}
    source = {f"tollgate/{f.name}" for f in (PACKAGE / "src" / "tollgate").iterdir() if f.suffix in (".py", ".typed")}
    assert packed == source
    code = "import tollgate, tollgate.asgi, tollgate.audit, tollgate.fastapi; print(tollgate.__file__)"
    env = {"PYTHONPATH": str(wheel)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert str(wheel) in done.stdout


def test_typed() -> None:
    subprocess.run([sys.executable, "-m", "mypy"], cwd=PACKAGE, check=True)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text(), re.DOTALL)


def check_proof(people: People, file: Path, check: Any) -> None:
    server = people.server
    fields = {"action": "order.cancel", "outcome": "OUTCOME_SUCCESS", "resource": "orders/7", "actor": {"username": "mia"}}
    event = server.rest("POST", "/v1/audit/events", fields)["event"]["id"]
    [key] = [found["key"] for found in server.rest("GET", "/v1/audit/keys")["keys"]]
    until = time.monotonic() + 20
    while not (answer := server.get(f"/v1/audit/tlog/proof/{event}")).is_success:  # within two seconds
        assert time.monotonic() < until, answer.text
    file.write_bytes(answer.content)
    assert check(str(file), key).startswith("proven: mia order.cancel orders/7 at ")
    file.write_bytes(re.sub(rb"(?m)^index \d+$", b"index 0", answer.content))
    assert check(str(file), key).startswith("not proven: ")


async def test_examples(people: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOLLGATE_API_KEY", people.service)
    names: dict[str, Any] = {}
    for number, example in enumerate(examples()):
        code = example.replace("http://localhost:8000", people.server.url)
        exec(compile(code, f"docs/python.md, example {number + 1}", "exec"), names)  # noqa: S102
        if number == 0:
            assert names["read_order"](people.alice, 42) == "order 42 for alice"
            assert names["read_order"](people.carol, 42) == "no: PERMISSION_MISSING"
            names["gate"].close()
    assert await names["may_read"](people.alice) and not await names["may_read"](people.carol)
    alice = {"Authorization": f"Bearer {people.alice}"}
    async with httpx.AsyncClient(app=names["app"], base_url="http://orders") as caller:
        assert (await caller.get("/orders/42", headers=alice)).json() == "order 42 for alice"
        assert (await caller.get("/me", headers=alice)).json() == "alice"
        assert (await caller.post("/orders", headers=alice)).status_code == 403
    async with httpx.AsyncClient(app=names["protected"], base_url="http://orders") as caller:
        assert (await caller.get("/healthz")).text == "somebody\n"
        assert (await caller.get("/orders/42", headers=alice)).text == "alice\n"
        assert (await caller.get("/static/a/b", headers=alice)).text == "alice\n"
        assert (await caller.post("/orders", headers=alice)).status_code == 403
    check_proof(people, tmp_path / "event.tlog-proof", names["check"])
    assert names["catalog"].authorize("orders:read", credential=people.alice).reason == "OK"
    names["catalog"].close()
    await names["gate"]._client.aclose()
    await names["protected"]._client.aclose()
