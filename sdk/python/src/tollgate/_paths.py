"""Which rule a request has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tollgate.rules import Public, Rule

_KEY = re.compile(r"(?P<method>[A-Z]+|\*) (?P<path>/\S*)")
_PARAMETER = re.compile(r"\{(\w+)(\.\.\.)?\}")

Found = Rule | Public
Given = Rule | Public | str


def rule_of(given: Given | None) -> Found | None:
    return Rule(given) if isinstance(given, str) else given


@dataclass(slots=True)
class _Node:
    """The patterns that go on after the same segments."""

    literals: dict[str, _Node] = field(default_factory=dict)
    one: _Node | None = None  # any segment
    rest: _Node | None = None  # all that follow
    rules: dict[str, tuple[Found, tuple[str, ...]]] = field(default_factory=dict)  # by method


class Paths:
    """Finds a request's rule by its method and path.

    Keys are ``"GET /orders/{id}"``, with ``WEBSOCKET`` or ``*`` as a method, too; GET also
    is HEAD. ``{rest...}`` at the end is any number of segments. At each segment a text is
    meant before a parameter, and the methods of the pattern that is meant are all there are.
    """

    def __init__(self, rules: Mapping[str, Given]) -> None:
        self._root = _Node()
        for key, given in rules.items():
            match = _KEY.fullmatch(key)
            rule = rule_of(given)
            if not match or rule is None:
                raise ValueError(f"tollgate: {key!r} must be a method and a path with a rule, as 'GET /orders/{{id}}'")
            self._add(key, match["method"], match["path"], rule)

    def _add(self, key: str, method: str, path: str, rule: Found) -> None:
        node, names = self._root, list[str]()
        segments = path[1:].split("/")
        for i, segment in enumerate(segments):
            if not (parameter := _PARAMETER.fullmatch(segment)):
                if "{" in segment or "}" in segment:
                    raise ValueError(f"tollgate: {key!r}: a parameter is a whole segment")
                node = node.literals.setdefault(segment, _Node())
                continue
            names.append(parameter[1])
            if not parameter[2]:
                node.one = node = node.one or _Node()
                continue
            if i != len(segments) - 1:
                raise ValueError(f"tollgate: {key!r}: nothing follows what takes the rest")
            node.rest = node = node.rest or _Node()
        if method in node.rules:
            raise ValueError(f"tollgate: {key!r} is there twice")
        node.rules[method] = rule, tuple(names)

    def find(self, method: str, path: str) -> tuple[Found, dict[str, str]] | None:
        """Returns the rule and the path's parameters; None: no rule, refuse."""
        segments = path[1:].split("/")
        # What a server may read in two ways has no rule.
        if not path.startswith("/") or "\\" in path or any(s in (".", "..") for s in segments) or "" in segments[:-1]:
            return None
        node, values = self._root, list[str]()
        for i, segment in enumerate(segments):
            if (literal := node.literals.get(segment)) is not None:
                node = literal
            elif node.one is not None and segment:
                node = node.one
                values.append(segment)
            elif node.rest is not None:
                node = node.rest
                values.append("/".join(segments[i:]))
                break
            else:
                return None
        found = node.rules.get(method) or (node.rules.get("GET") if method == "HEAD" else None) or node.rules.get("*")
        return (found[0], dict(zip(found[1], values, strict=True))) if found else None
