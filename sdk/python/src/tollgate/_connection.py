"""What an ASGI connection says of its caller."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 64


def header(scope: Scope, name: str) -> list[str]:
    """Returns the values of a header, each on its own."""
    wanted = name.lower().encode()
    return [value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == wanted]


class Proxies:
    """The proxies whose X-Forwarded-For is believed, as addresses or CIDRs."""

    def __init__(self, trusted: Iterable[str]) -> None:
        if isinstance(trusted, str):
            raise ValueError("tollgate: trusted_proxies must be a list of addresses or CIDRs")
        self._networks = [ipaddress.ip_network(t) for t in trusted]

    def caller(self, scope: Scope) -> str:
        """Returns the right-most address that is not a trusted proxy's; empty when it is not known."""
        client = scope.get("client")
        found = _parse(client[0]) if client else None
        if found is None or not self._trusts(found):
            return str(found or "")
        hops = ",".join(header(scope, "x-forwarded-for")).split(",")
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _parse(hop.strip(" \t"))
            if address is None:  # the proxy that wrote it is the last that is known
                break
            found = address
            if not self._trusts(found):
                break
        return str(found)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> Address | None:
    """An address with or without a port; one of IPv4 in IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
