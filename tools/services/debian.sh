# Installs the package $1 without its service: policy-rc.d keeps the service from
# starting, the other file keeps PostgreSQL's package from making a cluster. Both
# go away again; the lock keeps two runs from removing each other's.
set -u
exec 9>/run/lock/tollgate-services && flock 9 || exit

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/tollgate-services.conf
made=$cluster
[ -e "$policy" ] || made="$made $policy"
trap 'rm -f $made; rmdir "${cluster%/*}" 2>/dev/null' EXIT
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; } || exit
mkdir -p "${cluster%/*}" && echo "create_main_cluster = false" >"$cluster" || exit

install() {
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
		-o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$1" </dev/null
}
# A fresh image has no package lists, an old one outdated lists.
install "$1" || { apt-get update && install "$1"; } || exit
[ ! -e "/lib/systemd/system/$1.service" ] || [ ! -d /run/systemd/system ] || systemctl disable --quiet "$1"
