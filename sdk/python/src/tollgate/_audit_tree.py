"""Merkle trees of SHA-256 (RFC 6962 §2.1), and what proves that something is in one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def includes(root: bytes, size: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Says whether a tree with this root has the leaf at an index below its size (RFC 9162 §2.1.3.2)."""
    node, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node % 2 == 1 or node == last:
            found = _node(sibling, found)
            while node and node % 2 == 0:
                node, last = node >> 1, last >> 1
        else:
            found = _node(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def continues(earlier: bytes, before: int, later: bytes, after: int, proof: Sequence[bytes]) -> bool:
    """Says whether the tree of size ``after`` begins with that of size ``before``, from 1 to it (RFC 9162 §2.1.4.2).

    ``earlier`` and ``later`` are their roots.
    """
    if before == after:
        return not proof and earlier == later
    if not proof:
        return False
    # That of a power of two is a node of the later tree.
    first, *rest = [earlier, *proof] if before & (before - 1) == 0 else proof
    node, last = before - 1, after - 1
    while node % 2 == 1:
        node, last = node >> 1, last >> 1
    old = new = first
    for sibling in rest:
        if last == 0:
            return False
        if node % 2 == 1 or node == last:
            old, new = _node(sibling, old), _node(sibling, new)
            while node and node % 2 == 0:
                node, last = node >> 1, last >> 1
        else:
            new = _node(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == earlier and new == later
