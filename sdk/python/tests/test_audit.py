"""Proofs of the audit log, as the SDK in Go judges them: sdk/testdata/audit.json."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servers import REPOSITORY
from tollgate.audit import AuditCheckpoint, NotProven, ProvenEvent, parse_audit_log_keys, verify_consistency


def repeated(text: str) -> str:
    return re.sub(r"\$\{repeat (.*?) (\d+)\}", lambda m: str(m[1]) * int(m[2]), text, flags=re.DOTALL)


def _repeated_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _repeated_all(member) for name, member in value.items()}
    return repeated(value) if isinstance(value, str) else value


CASES = json.loads((REPOSITORY / "sdk" / "testdata" / "audit.json").read_text(), object_hook=_repeated_all)


def plain(value: Any) -> Any:
    """What was proven, in the form of the file."""
    if isinstance(value, AuditCheckpoint):
        return {"origin": value.origin, "size": str(value.size), "root": base64.b64encode(value.root).decode()}
    assert isinstance(value, ProvenEvent)
    members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    members |= {"index": str(value.index), "checkpoint": plain(value.checkpoint)}
    members["time"] = value.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {re.sub(r"_(\w)", lambda m: m[1].upper(), name): member for name, member in members.items()}


def verdict(case: dict[str, Any]) -> Any:
    keys = parse_audit_log_keys(*case["keys"])
    if case.get("onlyKeys"):
        return True
    if "checkpoint" in case:
        return plain(keys.verify_checkpoint(case["checkpoint"].encode()))
    if "later" in case:
        earlier, later = (keys.verify_checkpoint(case[name].encode()) for name in ("earlier", "later"))
        verify_consistency(earlier, later, [base64.b64decode(h) for h in case.get("hashes", ())])
        return True
    file = base64.b64decode(case["proofBase64"]) if "proofBase64" in case else case.get("proof", "").encode()
    return plain(keys.verify_proof(file))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    if case["want"] is None:
        with pytest.raises(Exception) as refused:
            verdict(case)
        assert refused.type is NotProven or "is not a log's key" in str(refused.value)
    else:
        assert verdict(case) == case["want"]


def test_without_cryptography(tmp_path: Path) -> None:
    code = "import sys; sys.modules['cryptography'] = None; import tollgate; import tollgate.audit"
    env = {"PYTHONPATH": str(REPOSITORY / "sdk" / "python" / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: tollgate.audit needs the package cryptography: pip install 'tollgate[audit]'" in done.stderr
