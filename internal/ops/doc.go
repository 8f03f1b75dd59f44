// Package ops tests what operators run Daybook with: the logins, rules and alerts in a real Prometheus, the dashboard's queries, and every command of
// the runbook, against real processes. `make test-ops` runs it; it needs promtool, prometheus, amtool, psql and curl.
package ops
