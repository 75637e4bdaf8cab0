"""Runs the cases that the SDKs have in common, with both clients."""

from __future__ import annotations

import contextlib
import inspect
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import servers
import tollgate as sdk
from cases import FILE, Saved, arguments, event, plain, problem_of, unlike
from servers import Script, Tollgate

PATIENCE = 20  # seconds for what should happen at once


class Fixture:
    def __init__(self) -> None:
        self.servers: dict[str, Tollgate] = {}
        self.saved = Saved()


@pytest.fixture(scope="module", params=[sdk.Client, sdk.AsyncClient], ids=["sync", "async"])
def fixture(request: pytest.FixtureRequest, program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    f = Fixture()
    with contextlib.ExitStack() as stack:
        environments: dict[str, dict[str, str]] = {"": {}, **FILE["servers"]}
        for name, env in environments.items():
            folder = tmp_path_factory.mktemp("cases")
            f.servers[name] = stack.enter_context(servers.tollgate(program, folder, env))
        f.saved.update(admin=f.servers[""].token, url=f.servers[""].url)
        for step in FILE["setup"]:
            f.saved.rest(f.servers[""], step)
        yield f, request.param


@pytest.mark.parametrize("case", FILE["cases"], ids=[c["name"] for c in FILE["cases"]])
async def test_case(case: dict[str, Any], fixture: tuple[Fixture, type[Any]]) -> None:
    f, kind = fixture
    server, saved = f.servers[case.get("server", "")], Saved(f.saved)
    for step in case.get("setup", []):
        saved.rest(server, step)
    options = case.get("client", {})
    with contextlib.ExitStack() as stack:
        url, script = server.url, None
        if "url" in options:
            url = options["url"]
        elif options.get("unreachable"):
            url = servers.unreachable()
        elif "script" in options:
            script = stack.enter_context(servers.scripted(Script(saved.fill(options["script"]), server.url)))
            url = script.url
        given: dict[str, Any] = {"api_key": saved.fill(options.get("apiKey", "${service}"))}
        if "timeoutMs" in options:
            given["timeout"] = options["timeoutMs"] / 1000
        if "retries" in options:
            given["retries"] = options["retries"]
        if "onUnavailable" in options:
            given["on_unavailable"] = options["onUnavailable"]
        if case.get("refused"):
            with pytest.raises(ValueError) as refused:
                kind(url, **given)
            without_secrets(refused.value, saved)
            return
        client = kind(url, **given)
        try:
            for step in case["steps"]:
                await run(client, server, step, saved, script)
        finally:
            await settled(client.aclose() if kind is sdk.AsyncClient else client.close())


async def run(client: Any, server: Tollgate, step: dict[str, Any], saved: Saved, script: Script | None) -> None:
    if "path" in step:
        saved.rest(server, step)
        return
    before = len(script.requests) if script else 0
    late = time.monotonic() + PATIENCE
    problem = await made(client, step, saved)
    while problem and step.get("until") and time.monotonic() < late:
        problem = await made(client, step, saved)
    assert not problem
    if "requests" in step:
        assert script and len(script.requests) - before == step["requests"]


async def made(client: Any, step: dict[str, Any], saved: Saved) -> str:
    if "as" in step:
        client = client.as_(saved.fill(step["as"]))
    args = saved.fill(step.get("args", {}))
    try:
        got = plain(await settled(call(client, step["call"], args)))
    except sdk.TollgateError as error:
        without_secrets(error, saved)
        if "error" not in step:
            return f"error {error}"
        return unlike("error", saved.fill(step["error"]), problem_of(error))
    if "error" in step:
        return f"no error, but {got}"
    return unlike("result", saved.fill(step["want"]), got) if "want" in step else ""


def call(client: Any, name: str, args: dict[str, Any]) -> Any:
    match name:
        case "authorize":
            return client.authorize(**arguments(args))
        case "explain":
            return client.explain(**arguments(args))
        case "verify":
            return client.verify(**arguments(args))
        case "checkLimit":
            return client.check_limit(**arguments(args))
        case "recordEvent":
            return client.record_event(event(args))
        case "recordEvents":
            return client.record_events([event(e) for e in args["events"]])
    raise AssertionError(f"there is no call {name!r}")


async def settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def without_secrets(error: BaseException, saved: Saved) -> None:
    """Looks also at what is chained, as a log would show it."""
    text = repr(error) + "".join(traceback.format_exception(error))
    assert error.__context__ is None, "an exception of the transport is reachable, with its request"
    assert not [s for s in saved.secrets() if s in text]

