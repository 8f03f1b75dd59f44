#!/usr/bin/env python3
"""Checks what is in deploy, and docs/runbook.md. It needs promtool (Debian: prometheus) and no database.

- promtool takes the configuration and the rules, and the tests of the rules pass.
- The dashboard and the rules name no metric of Daybook that docs/metrics.md does not have.
- Each expression of the dashboard gives something, on made-up series of all metrics in docs/metrics.md.
- The runbook has an entry for each alert and no others, and each names commands of the kinds that are allowed.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

deploy = pathlib.Path(__file__).resolve().parent
docs = deploy.parent / "docs"
failures = []


def fail(message):
    failures.append(message)


def promtool(*args):
    result = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True)
    if result.returncode != 0:
        fail("promtool " + " ".join(map(str, args)) + "\n" + "\n".join(l for l in (result.stdout + result.stderr).splitlines() if l.strip()))


def documented():
    """The metrics in docs/metrics.md: name, type, labels, job."""
    job = ""
    for line in (docs / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            job = {"## From each worker": "daybook-worker"}.get(line, "daybook-api")
        if m := re.match(r"\| `(daybook_\w+)` \| (\w+) \| ([\w, ]*?) *\|", line):
            yield m[1], m[2], [l for l in m[3].split(", ") if l], job


def made_up():
    """Series of every documented metric, and of those of the process, in the notation of promtool's tests."""
    values = {"status": ["200", "503"], "route": ["/api/usage/daily"], "method": ["GET"]}
    process = ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds", "go_goroutines",
               "go_memstats_heap_inuse_bytes", "up")
    metrics = list(documented()) + [(name, "gauge", [], job) for name in process for job in ("daybook-api", "daybook-worker")]
    metrics += [(name, kind, labels, "daybook-worker") for name, kind, labels, _ in documented() if name == "daybook_build_info"]
    for name, kind, labels, job in metrics:
        sets = [f'job="{job}", instance="a"']
        for label in labels:
            sets = [f'{s}, {label}="{v}"' for s in sets for v in values.get(label, ["x", "y"])]
        for s in sets:
            if kind == "histogram":
                for n, le in enumerate(("1", "60", "600", "+Inf"), 1):
                    yield f'{name}_bucket{{{s}, le="{le}"}}', f"0+{n}x40"
                yield f"{name}_sum{{{s}}}", "0+9x40"
                yield f"{name}_count{{{s}}}", "0+4x40"
            else:
                yield f"{name}{{{s}}}", "1x40" if kind == "gauge" else "0+3x40"


def expressions():
    dashboard = json.loads((deploy / "grafana" / "daybook.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        fail("two panels of the dashboard have one id")
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if target["datasource"]["uid"] != "${datasource}":
                fail(f"{panel['title']}: not from the data source that is chosen")
            yield panel["title"], target["expr"]


known = {name for name, *_ in documented()}
histograms = {name for name, kind, *_ in documented() if kind == "histogram"}
known |= {name + suffix for name in histograms for suffix in ("_bucket", "_count", "_sum")}
rules = (deploy / "prometheus" / "rules.yml").read_text()
recorded = set(re.findall(r"- record: (\S+)", rules))
named = [("rules.yml", line) for line in rules.splitlines() if not line.strip().startswith("#")] + list(expressions())
for where, text in named:
    for name in re.findall(r"\bdaybook[_:][\w:]+", text):
        if name not in known | recorded or (":" in name and where != "rules.yml"):
            fail(f"{where}: there is no metric {name}")

test = {"rule_files": [], "evaluation_interval": "15s", "tests": [{
    "interval": "15s",
    "input_series": [{"series": s, "values": v} for s, v in made_up()],
    "promql_expr_test": [
        {"expr": f"count({expr}) > bool 0", "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": 1}]} for _, expr in expressions()],
}]}
with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
    json.dump(test, file)  # JSON is YAML.
    file.flush()
    promtool("test", "rules", file.name)

promtool("check", "config", deploy / "prometheus" / "prometheus.yml")
promtool("check", "rules", "--lint-fatal", deploy / "prometheus" / "rules.yml")
for name in ("rules_test.yml", "rules_days_test.yml"):
    promtool("test", "rules", deploy / "prometheus" / name)

alerts = re.findall(r"- alert: (\w+)", rules)
urls = re.findall(r"runbook_url: (\S+)", rules)
if urls != [f"docs/runbook.md#{alert.lower()}" for alert in alerts]:
    fail("rules.yml: a runbook_url is not that of its alert")
entries = re.split(r"^## ", (docs / "runbook.md").read_text(), flags=re.M)[1:]
if sorted(entry.split("\n")[0] for entry in entries) != sorted(alerts):
    fail("docs/runbook.md: its entries are not the alerts")
allowed = re.compile(r"""worker [\w -]+|curl -fsS http://127\.0\.0\.1:9464/\w+|psql "\$DATABASE_URL" -c '[^']+'""")
for entry in entries:
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", entry, re.M | re.S) for line in block.splitlines()]
    if not commands:
        fail("docs/runbook.md: no command for " + entry.split("\n")[0])
    for command in commands:
        if not allowed.fullmatch(command):
            fail("docs/runbook.md: not a command that can be run as it is: " + command)

for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
