#!/bin/sh
# Runs a command with npm and Node 20.19 or later on its PATH: this machine's, or
# those of the packages here, which Debian's nodejs and npm install.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }

recent() {
	command -v npm >/dev/null && node -e \
		'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

# Debian's, also where they are too old to run what is asked for.
packages() {
	! { command -v node && command -v npm; } >/dev/null || return 0
	echo "node: installing Debian's packages nodejs and npm (a minute or so, this once)" >&2
	as=
	[ "$(id -u)" = 0 ] || as="sudo -n"
	install="$as env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 nodejs npm"
	# A fresh image has no package lists, an old one outdated lists.
	$install </dev/null >&2 || { $as apt-get update >&2 && $install </dev/null >&2; } || {
		echo "node: cannot be installed here; install Node 20.19 or later with npm" >&2
		exit 1
	}
}

if ! recent; then
	exec 9>"$here/.lock"
	! command -v flock >/dev/null || flock 9
	modules=$here/node_modules
	if ! [ "$modules/.package-lock.json" -nt "$here/package-lock.json" ]; then
		packages
		npm --prefix "$here" ci --no-audit --no-fund >&2
		touch "$modules/.package-lock.json"
	fi
	exec 9>&-
	PATH=$modules/.bin:$PATH
	export PATH
	recent || { echo "node: no Node 20.19 or later for this machine; install one" >&2; exit 1; }
fi
exec "$@"
