#!/bin/sh
# Runs a Python that has what the tests of the Python SDK need: the one in
# TOLLGATE_TEST_PYTHON, or Debian's, whose packages this installs where they are missing.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 ARGUMENT..." >&2; exit 2; }
python=${TOLLGATE_TEST_PYTHON:-/usr/bin/python3}

ready() { "$python" -c 'import cryptography, fastapi, hatchling, httpx, mypy, pytest, pytest_asyncio, uvicorn, wsproto' 2>/dev/null; }

if ! ready && [ -z "${TOLLGATE_TEST_PYTHON:-}" ]; then
	echo "python: installing Debian's packages (a minute or so, this once)" >&2
	as=
	[ "$(id -u)" = 0 ] || as="sudo -n"
	install="$as env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0
		python3 python3-cryptography python3-fastapi python3-hatchling python3-httpx python3-pytest python3-pytest-asyncio python3-uvicorn python3-wsproto mypy"
	# A fresh image has no package lists, an old one outdated lists.
	$install </dev/null >&2 || { $as apt-get update >&2 && $install </dev/null >&2; } || true
fi
ready || {
	echo "python: $python needs 3.11 and the packages cryptography, fastapi, hatchling, httpx, mypy, pytest, pytest-asyncio, uvicorn and wsproto; name another in TOLLGATE_TEST_PYTHON" >&2
	exit 1
}
exec "$python" "$@"
