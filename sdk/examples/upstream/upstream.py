#!/usr/bin/env python3
"""A service behind a proxy that asks Tollgate. It trusts nothing but the assertion:
the signed token of a minute that comes with each request that Tollgate allowed.

    python3 upstream.py --issuer https://tollgate.internal --audience orders \\
        --permission orders:read --listen 127.0.0.1:9000

It answers with what it received, as JSON: 401 without a good Tollgate-Assertion, 403
with one for another permission, 503 while it has no keys. Python 3.8 or newer, with
its standard library only; so Ed25519 (RFC 8032) is written out below. That suffices
to verify, where nothing is secret, of tokens that Tollgate signs with EdDSA, its
default algorithm. A service that may install packages takes a JWT library instead,
gives it the algorithm of each key, and still checks what claims() does.
"""

import argparse
import base64
import hashlib
import http.server
import json
import sys
import threading
import time
import urllib.request

HEADER, TYPE = "Tollgate-Assertion", "tollgate-assertion+jwt"
MAX_TOKEN, MAX_KEYS, MAX_BODY = 8 << 10, 256 << 10, 1 << 20  # bytes
LIFETIME, SKEW = 60, 120  # seconds that an assertion lives, and that clocks may be apart
KEYS_FRESH, KEYS_STALE, KEYS_WAIT = 300, 3600, 5  # seconds: max-age, without a fetch, between fetches

# Ed25519: the curve's field, its order, d, and points as (x, y, z, t) (RFC 8032 §5.1.4).
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ZERO = (0, 1, 1, 0)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode_point(raw):
    """Returns the point that 32 bytes stand for (§5.1.3), None when they are none."""
    if len(raw) != 32:
        return None
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def encode_point(p):
    x, y = (c * pow(p[2], -1, P) % P for c in p[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def verify(key, message, signature):
    """Reports whether s·B - k·A is R (§5.1.7), with the one spelling of each."""
    a, r, s = decode_point(key), signature[:32], int.from_bytes(signature[32:], "little")
    if a is None or len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    steps, sum_ = (ZERO, BASE, minus_a, add(BASE, minus_a)), ZERO
    for bit in range(252, -1, -1):
        sum_ = add(add(sum_, sum_), steps[(s >> bit & 1) | (k >> bit & 1) << 1])
    return encode_point(sum_) == r


class Refused(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


def invalid(message):
    return Refused(401, "unauthenticated", message)


def decode(segment):
    """Decodes base64url without padding, of which there is one spelling."""
    raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment.encode("ascii"):
        raise ValueError("not canonical")
    return raw


def members(raw):
    """Reads a JSON object, no member of which appears twice."""

    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    found = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


class Keys:
    """Tollgate's public keys by kid. They are fetched again when they are 5 minutes
    old or a token names another one, and used for an hour while that fails."""

    def __init__(self, url):
        self.url, self.lock, self.keys = url, threading.Lock(), {}
        self.fetched = self.tried = float("-inf")

    def get(self, kid):
        key = self.keys.get(kid)
        if key and time.monotonic() - self.fetched < KEYS_FRESH:
            return key
        with self.lock:
            now = time.monotonic()
            if (now - self.fetched >= KEYS_FRESH or kid not in self.keys) and now - self.tried >= KEYS_WAIT:
                self.tried = now
                try:
                    self.keys, self.fetched = self.fetch(), now
                except Exception as failure:  # whatever it was, the former keys stay
                    print("the keys cannot be fetched:", failure, file=sys.stderr, flush=True)
            if now - self.fetched >= KEYS_STALE:
                raise Refused(503, "unavailable", "there are no keys to verify with; try again")
            return self.keys.get(kid)

    def fetch(self):
        with urllib.request.urlopen(self.url, timeout=2) as answer:
            text = answer.read(MAX_KEYS + 1)
        found = {}
        for key in members(text)["keys"] if len(text) <= MAX_KEYS else ():
            if (key.get("kty"), key.get("crv"), key.get("alg"), key.get("use")) == ("OKP", "Ed25519", "EdDSA", "sig"):
                found[key["kid"]] = decode(key["x"])
        if not found:
            raise ValueError("no Ed25519 key; start Tollgate with --signing-algorithm EdDSA")
        return found


def claims(token, keys, issuer, audience, now):
    """Returns the claims of a good assertion, and raises Refused for any other."""
    try:
        if len(token) > MAX_TOKEN or token.count(".") != 2:
            raise ValueError("not a token")
        head, body, signature = token.split(".")
        header = members(decode(head))
        if header != {"alg": "EdDSA", "typ": TYPE, "kid": str(header.get("kid"))}:
            raise ValueError("another type or algorithm")  # an access token, for one
        key = keys.get(header["kid"])
        if key is None or not verify(key, (head + "." + body).encode("ascii"), decode(signature)):
            raise ValueError("not signed by Tollgate")
        found = members(decode(body))
    except (ValueError, RecursionError) as why:
        raise invalid("the assertion is not good: " + str(why)) from None
    issued, expires = found.get("iat"), found.get("exp")
    if type(issued) is not int or type(expires) is not int or not 0 < expires - issued <= LIFETIME or issued > now + SKEW:
        raise invalid("the assertion's times are not good")
    if found.get("iss") != issuer or found.get("kind") not in ("person", "service", "anonymous"):
        raise invalid("the assertion is not from " + issuer)
    if found.get("aud") != audience:
        raise invalid("the assertion is for another service")
    if now >= expires:
        raise invalid("the assertion has expired")
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout, disable_nagle_algorithm = "HTTP/1.1", 30, True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.serve  # any method
        raise AttributeError(name)

    def serve(self):
        try:
            body = self.read_body()
            found = self.authorize()
            self.answer(200, {
                "method": self.command,
                "path": self.requestline.split()[1],  # as it was sent; self.path has leading slashes merged
                "headers": self.headers.items(),  # pairs, one for each line
                "bodyBytes": len(body),
                "assertion": found,
            })
        except Refused as why:
            self.log_message("%s: %s", why.status, why)
            self.answer(why.status, {"code": why.code, "message": str(why)})

    def authorize(self):
        sent = self.headers.get_all(HEADER, [])
        if len(sent) != 1:
            raise invalid("call through the proxy in front of this service; it adds exactly one " + HEADER)
        found = claims(sent[0], self.server.keys, self.server.args.issuer, self.server.args.audience, time.time())
        if found["kind"] == "anonymous" and not found.get("permission") and self.server.args.public:
            return found
        if found["kind"] == "anonymous" or found.get("permission", "") not in self.server.args.permission:
            raise Refused(403, "permission_denied", "the proxy asked for another permission than this service needs")
        return found

    def read_body(self):
        """Reads the body, so that the next request begins after it."""
        length = self.headers.get_all("Content-Length", ["0"])
        good = len(length) == 1 and length[0].isascii() and length[0].isdigit() and "Transfer-Encoding" not in self.headers
        if not good or len(length[0]) > 7 or int(length[0]) > MAX_BODY:
            self.close_connection = True
            raise Refused(413, "resource_exhausted", "send a Content-Length of at most %d" % MAX_BODY)
        return self.rfile.read(int(length[0]))

    def answer(self, status, value):
        text = json.dumps(value).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if status == 503:
            self.send_header("Retry-After", str(KEYS_WAIT))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_request(self, code="-", size="-"):
        pass  # what is refused is logged, without what was sent


class Server(http.server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True


def main():
    parser = argparse.ArgumentParser(description="A service that trusts nothing but Tollgate's assertion.")
    parser.add_argument("--issuer", required=True, help="Tollgate's --issuer")
    parser.add_argument("--audience", required=True, help="this service's, as the proxy asks for it: ?audience=")
    parser.add_argument("--permission", action="append", default=[], help="what a request needs; several: any of them; empty: no permission, just a known caller")
    parser.add_argument("--public", action="store_true", help="take the assertions of public routes, too")
    parser.add_argument("--jwks", help="the key set's URL; /.well-known/jwks.json at the issuer unless given")
    parser.add_argument("--listen", default="127.0.0.1:9000", help="host:port; port 0: a free one")
    args = parser.parse_args()
    if not args.permission and not args.public:
        parser.error("give a --permission, or --public")
    host, _, port = args.listen.rpartition(":")
    server = Server((host, int(port)), Handler)
    server.args, server.keys = args, Keys(args.jwks or args.issuer.rstrip("/") + "/.well-known/jwks.json")
    print("listening on http://%s:%d" % server.server_address[:2], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
