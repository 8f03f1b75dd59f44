#!/bin/sh
# Parses the files of this directory with their own tools. What is not installed is named, and the check fails.
# Prometheus' and Grafana's files are checked by make test-ops.
set -eu
cd "$(dirname "$0")"
missing=
for tool in yamllint kubectl systemd-analyze; do
	command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ "$missing" ]; then
	echo "not installed, so not everything can be checked:$missing" >&2
	exit 1
fi

yamllint -d '{extends: relaxed, rules: {line-length: disable}}' .
kubectl kustomize kubernetes >/dev/null
echo "kubectl kustomize renders deploy/kubernetes"

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
echo "systemd-analyze accepts deploy/systemd"
