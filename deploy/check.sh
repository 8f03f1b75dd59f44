#!/bin/sh
# Parses the files of this directory with the code that will read them: docs/deployment.md says what by what. Prometheus', Alertmanager's and Grafana's
# files are checked by make test-ops.
set -eu
cd "$(dirname "$0")"
(cd check && go vet . && go run .)

if ! command -v systemd-analyze >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "The units need systemd-analyze: installing systemd."
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update >/dev/null && apt-get -q install -y --no-install-recommends systemd </dev/null >/dev/null || echo "The installation failed."
fi
if ! command -v systemd-analyze >/dev/null; then
	echo "systemd-analyze is not installed, so the units cannot be checked" >&2
	exit 1
fi

# systemd-analyze wants to see the programs and the units that others name.
units=$(mktemp -d)
trap 'rm -r "$units"' EXIT
for unit in systemd/*.service; do
	sed 's|/usr/local/lib/daybook/[a-z]*|/bin/true|' "$unit" >"$units/$(basename "$unit")"
done
found=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no "$units"/*.service 2>&1 | grep -F daybook || true)
if [ "$found" ]; then
	echo "$found" >&2
	exit 1
fi
echo "ok      systemd-analyze verify: systemd/"
# It says 1.1 of a service that talks over the network as these do, and more than 9 without their settings.
for unit in "$units"/*.service; do
	systemd-analyze security --offline=yes --no-pager --threshold=20 "$unit" >"$units/report" 2>&1 || { cat "$units/report" >&2; exit 1; }
done
echo "ok      systemd-analyze security: systemd/, exposed 2.0 at most"
