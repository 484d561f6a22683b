"""The rules and the dashboard, held against a real Prometheus and a real Alertmanager that watch a run."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.receiving import Hook, hook
from tests.live.test_alerting import emp, page_of
from tests.live.test_run import start

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docs/alerts.rules.yml"
SOON_S = 90.0

FIRES = {
    "EngineGone": ('up{job="emp"}', "1 0 0 0", "1 1 1 1"),
    "RiskHalted": ("risk_halted", "0 1 1 1", "0 0 0 0"),
    "TradeLinkDown": ('link_up{channel="trade"}', "1 0 0 0", "1 0 1 1"),
    "MarketLinkDown": ('link_up{channel="market"}', "1 0 0 0", "1 0 1 1"),
    "LogonRefused": ("logon_refusals_total", "0 1 3 6", "0 0 1 1"),
    "NearLimit": ('limit_used_ratio{instrument="X",limit="drawdown"}', "0 0 0 0.9", "0 0 0 0.7"),
    "OrdersRefused": ("orders_refused_total", "0 3 6 12", "0 1 2 2"),
    "BreakerOpen": ('breaker_open{reason="rejects"}', "0 0 1 1", "0 1 0 0"),
    "ValueStopped": ('earned_lots{instrument="X"}', "1 1 0 0", "1 1 1 1"),
    "FallbackServes": ('model_info{role="fallback"}', "_ 1 1 1", "_ _ _ _"),
    "ModelSlow": ("model_slow", "0 0 1 1", "0 1 0 0"),
    "InputDrifted": ('input_drifted{instrument="X",input="ofi"}', "0 0 1 1", "0 1 0 0"),
    "MirrorBehind": ('mirror_behind_seconds{mirror="kafka"}', "1 10 50 90", "50 1 59 2"),
    "EventLag": ('event_lag_ms{instrument="X"}', "0 1 2 300", "0 1 2 200"),
    "Drops": ('drops_total{instrument="X",reason="crossed"}', "0 100 200 400", "0 10 20 30"),
}
"""By rule: a series, its values at the minutes 0 to 3 that must make it fire, and others that must not."""


def needed(*commands: str) -> None:
    for command in commands:
        if shutil.which(command) is None:
            words = f"no {command}: install prometheus and prometheus-alertmanager to try rules and dashboard"
            if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
                pytest.fail(words)
            pytest.skip(words)


@pytest.mark.service
def test_every_rule_fires_on_what_it_is_for_and_on_nothing_less(tmp_path: Path) -> None:
    needed("promtool")
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules} == FIRES.keys()
    cases = []
    for rule in rules:
        series, fires, stays = FIRES[rule["alert"]]
        for values, alert in ((fires, True), (stays, False)):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', series))
            kept = re.search(r"by \(([^)]*)\)", rule["expr"])
            if kept:
                labels = {name: labels[name] for name in re.split(r",\s*", kept[1]) if name in labels}
            expected = {"exp_labels": {**labels, **rule["labels"]}}
            told = {"alertname": rule["alert"], "eval_time": "3m", "exp_alerts": [expected] if alert else []}
            cases.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": series, "values": values}],
                    "alert_rule_test": [told],
                }
            )
    bare = yaml.safe_load(RULES.read_text())
    for group in bare["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]  # words; here it is when they are said that counts
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(bare))
    file = tmp_path / "cases.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fetch(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{url}: {error.read()!r}") from None


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SOON_S
    while True:
        with suppress(urllib.error.URLError, ConnectionError):
            if true():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@contextmanager
def service(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def alertmanager(folder: Path, url: str) -> Iterator[int]:
    """An Alertmanager that passes everything on to a webhook at once; its port."""
    route = {"receiver": "owner", "group_wait": "0s", "group_interval": "1s", "group_by": ["..."]}
    receivers = [{"name": "owner", "webhook_configs": [{"url": url}]}]
    (folder / "am.yml").write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
    port = free_port()
    with service(
        "prometheus-alertmanager",
        f"--config.file={folder}/am.yml",
        f"--storage.path={folder}/am",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ):
        until(lambda: fetch(f"http://127.0.0.1:{port}/api/v2/status"), "no Alertmanager")
        yield port


@contextmanager
def prometheus(folder: Path, page: str, alerts: int) -> Iterator[str]:
    """A Prometheus that scrapes a page each second, with our rules; its address."""
    scrape = {"job_name": "emp", "static_configs": [{"targets": [page.removeprefix("http://")]}]}
    to = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]}
    told = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "alerting": to,
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
    port = free_port()
    with service(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        yield f"http://127.0.0.1:{port}"


def asked(address: str, query: str) -> list[Any]:
    found = fetch(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    return list(found["data"]["result"])


def passed_on(receiver: Hook) -> list[tuple[str, str]]:
    """(rule, status) of everything that the Alertmanager has sent."""
    alerts = [alert for post in receiver.posts for alert in post.body["alerts"]]
    return [(alert["labels"]["alertname"], alert["status"]) for alert in alerts]


@pytest.mark.service
def test_every_panel_shows_something_and_a_kill_reaches_who_is_behind_the_alertmanager(
    tmp_path: Path,
) -> None:
    needed("prometheus", "prometheus-alertmanager")
    panels = json.loads((ROOT / "docs/grafana.json").read_text())["panels"]
    queries = [target["expr"].replace("$instrument", ".*") for panel in panels for target in panel["targets"]]
    with hook() as owner, start(tmp_path, EMP_ACCESS__SPEED="20") as run:
        page = page_of(run)
        try:
            with (
                alertmanager(tmp_path, f"{owner.url}/am") as port,
                prometheus(tmp_path, page, port) as address,
            ):
                for query in queries:
                    until(lambda query=query: asked(address, query), f"nothing to see: {query}")
                (folder,) = tmp_path.glob("mock-*")
                until(lambda: emp(tmp_path, "kill", str(folder)).returncode == 0, "it takes no control")
                until(lambda: ("RiskHalted", "firing") in passed_on(owner), "the kill was not told")
        finally:
            run.terminate()
            run.communicate(timeout=60)
