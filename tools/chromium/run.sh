#!/bin/sh
# Runs a command with TOLLGATE_CHROMIUM naming a Chromium: the one that it names already,
# this machine's, or Debian's, which this installs where there is none.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }

find() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if [ -z "${TOLLGATE_CHROMIUM:-}" ]; then
	if ! find >/dev/null; then
		echo "chromium: installing Debian's package (a minute or so, this once)" >&2
		as=
		[ "$(id -u)" = 0 ] || as="sudo -n"
		install="$as env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 chromium"
		# A fresh image has no package lists, an old one outdated lists.
		$install </dev/null >&2 || { $as apt-get update >&2 && $install </dev/null >&2; } || true
	fi
	TOLLGATE_CHROMIUM=$(find) || {
		echo "chromium: cannot be installed here; install it, or name a browser like it in TOLLGATE_CHROMIUM" >&2
		exit 1
	}
	export TOLLGATE_CHROMIUM
fi
exec "$@"
