"""docs/metrics.md and deploy/prometheus/, checked by Prometheus itself, by promtool, and with Grafana's own types."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.client import ask, bearer
from support.keys import CANARY, KEY
from support.metrics import OPEN_METRICS
from support.prometheus import FOLDER, PROMETHEUS, PROMTOOL, Prometheus, configuration, prometheus
from support.proxies import shipped
from support.servers import Server, start_server

pytestmark = pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed")

ROOT = Path(__file__).resolve().parents[3]

SCRAPER, VIEWER = (f"{CANARY}-{name}-0123456789-abcdefghijklmnopqrstuvwxyz" for name in ("scraper", "viewer"))

#: One label is as hostile as a key file allows.
KEYS = (
    f"{KEY} owner\n{SCRAPER} prometheus scope=metrics\n{VIEWER} wall scope=view\n"
    'a-key-with-such-a-label-0123456789abcdef b"} 1\\n# EOF\\ expires=2199-01-31\n'
)

#: Labels that Prometheus adds.
OF_PROMETHEUS = {"instance", "job", "__name__"}


@pytest.fixture(scope="module")
def server(copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEYS)
    keys.chmod(0o600)
    with start_server(copy_miniature(), "--api-key-file", str(keys)) as started:
        yield started


@pytest.fixture(scope="module")
def scraping(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(configuration(tmp_path_factory.mktemp("prometheus"), server, SCRAPER)) as started:
        yield started


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """What it prints when it finds nothing wrong."""
    assert PROMTOOL
    result = subprocess.run([PROMTOOL, *arguments], input=stdin, capture_output=True, check=False)
    said = (result.stdout + result.stderr).decode()
    assert result.returncode == 0, said
    return said


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return found


def expressions_of_the_dashboard() -> list[str]:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    return expressions


def prompt(seconds: float) -> bytes:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "ProgressDemo", "inputs": {"image": ["1", 0], "seconds": seconds, "steps": 2}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    return json.dumps({"prompt": graph}).encode()


# ---------------------------------------------------------------------------------------------------------------------
# promtool


def test_promtool_finds_nothing_to_say_about_the_page(server: Server) -> None:
    """promtool reads the classic format, and knows the rules for names."""
    json_type = {"Content-Type": "application/json"}
    assert ask(server, "/prompt", {**bearer(KEY), **json_type}, method="POST", body=prompt(0.1)).status == 200
    page = ask(server, "/metrics", bearer(SCRAPER)).body
    assert b'key_label="b\\"} 1\\\\n# EOF\\\\"' in page
    assert b'key_label="owner",status="success"' in page
    assert promtool("check", "metrics", stdin=page) == ""


def test_promtool_accepts_what_is_shipped(server: Server, tmp_path: Path) -> None:
    said = promtool("check", "config", str(configuration(tmp_path, server, SCRAPER)))
    assert "4 rules found" in said
    assert promtool("check", "rules", "--lint-fatal", str(FOLDER / "alerts.yml")).count("SUCCESS") == 1


def test_each_alert_fires_when_it_should() -> None:
    cases = ROOT / "tests" / "fixtures" / "prometheus" / "alerts.test.yml"
    alerts = re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    assert len(alerts) == 4
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", cases.read_text()), alert
    assert "SUCCESS" in promtool("test", "rules", str(cases))


# ---------------------------------------------------------------------------------------------------------------------
# Prometheus


def test_prometheus_reads_it(server: Server, scraping: Prometheus) -> None:
    """It asks for OpenMetrics first."""
    [target] = scraping.until(
        lambda: [one for one in scraping.ask("targets")["activeTargets"] if one["health"] == "up"]
    )
    assert target["lastError"] == ""
    assert scraping.until(lambda: scraping.value("comfy_auth_keys_in_force")) == 4
    labels = {labels["key_label"] for labels, _ in scraping.query("comfy_auth_key_expires_timestamp_seconds")}
    assert labels == {'b"} 1\\n# EOF\\'}
    admitted = 'comfy_auth_decisions_total{outcome="admitted"}'
    before = scraping.value(admitted)
    assert before is not None
    for _ in range(5):
        assert ask(server, "/queue", bearer(KEY)).status == 200
    scraping.until(lambda: (scraping.value(admitted) or 0) >= before + 5)
    assert scraping.query("scrape_samples_scraped > 30")
    known = scraping.ask("metadata")
    page = ask(server, "/metrics", {**bearer(SCRAPER), **OPEN_METRICS}).text
    for name, kind, text in re.findall(r"# HELP (\w+) (.*)\n# TYPE \w+ (\w+)", page):
        assert known[name][0]["help"] == kind, name
        assert known[name][0]["type"] == text, name


def test_prometheus_sees_prompts_by_key(server: Server, scraping: Prometheus) -> None:
    seconds = 'comfy_auth_prompt_seconds_total{key_label="wall"}'
    assert scraping.value(seconds) is None  # a key of `view` can't queue
    json_type = {"Content-Type": "application/json"}
    assert ask(server, "/prompt", {**bearer(KEY), **json_type}, method="POST", body=prompt(0.5)).status == 200
    scraping.until(lambda: (scraping.value(seconds.replace("wall", "owner")) or 0) >= 0.5)
    counted = scraping.value('comfy_auth_prompts_total{key_label="owner", status="success"}')
    assert counted is not None
    assert counted >= 1


def test_prometheus_accepts_every_question_of_the_dashboard(scraping: Prometheus) -> None:
    scraping.until(lambda: scraping.value("comfy_auth_keys_in_force"))
    for expression in expressions_of_the_dashboard():
        asked = expression.replace("$__rate_interval", "5s").replace("$instance", ".*")
        assert "$" not in asked
        scraping.query(asked)
    labels = {
        "outcome",
        "cause",
        "key_label",
        "status",
        "credential",
        "state",
        "index",
        "name",
        "type",
        "file",
        "version",
    }
    told = scraping.ask("series", **{"match[]": '{__name__=~"comfy_auth_.*"}'})
    assert {label for one in told for label in one} <= labels | OF_PROMETHEUS


def test_an_alert_fires(copy_miniature: Any, tmp_path: Path) -> None:
    """Prometheus has the same address as the guesser. It still gets in, because its key was good from there before."""
    (tmp_path / "keys").write_text(KEYS)
    (tmp_path / "keys").chmod(0o600)
    with (
        start_server(copy_miniature(), "--api-key-file", str(tmp_path / "keys")) as server,
        prometheus(configuration(tmp_path, server, SCRAPER)) as started,
    ):
        started.until(lambda: started.query("count_over_time(comfy_auth_locks_total[1m]) > 1"))
        assert started.query("ALERTS") == []
        for number in range(10):
            ask(server, "/queue", bearer(f"wrong-{number}"))
        assert ask(server, "/queue", bearer("wrong")).status == 429
        [(labels, _)] = started.until(lambda: started.query('ALERTS{alertname="ComfyUIAddressLocked"}'))
        assert (labels["alertstate"], labels["severity"]) == ("firing", "warning")
        [group] = started.ask("rules")["groups"]
        assert [rule["health"] for rule in group["rules"]] == ["ok"] * 4
        assert started.value("min_over_time(up[1m])") == 1


def test_a_key_with_another_scope_is_no_use(server: Server, tmp_path: Path) -> None:
    with prometheus(configuration(tmp_path, server, VIEWER)) as started:
        [target] = started.until(lambda: [one for one in started.ask("targets")["activeTargets"] if one["lastError"]])
        assert (target["health"], target["lastError"]) == ("down", "server returned HTTP status 403 Forbidden")
        assert started.value("comfy_auth_keys_in_force") is None


def test_only_one_place_holds_the_key() -> None:
    text = shipped("prometheus/prometheus.yml", {"/etc/prometheus/comfyui.key": "FILE"})
    assert re.findall(r"authorization:\n +(\w+): FILE", text) == ["credentials_file"]


# ---------------------------------------------------------------------------------------------------------------------
# Grafana

GRAFANA = ROOT / "tests" / "grafana" / "node_modules"
TYPES = GRAFANA / "@grafana" / "schema" / "dist" / "types" / "raw"

needs_grafana = pytest.mark.skipif(not GRAFANA.is_dir(), reason="`make test-release` installs Grafana's types")


def schema(file: Path, name: str) -> dict[str, Any]:
    """The JSON Schema of one of Grafana's published types. It allows no other fields."""
    tool = GRAFANA / ".bin" / "ts-json-schema-generator"
    command = [tool, "--path", file, "--type", name, "--no-type-check", "--no-top-ref"]
    result = subprocess.run(command, capture_output=True, check=True)
    made: dict[str, Any] = json.loads(result.stdout)
    assert made["additionalProperties"] is False
    return made


@needs_grafana
def test_grafanas_types_accept_the_dashboard() -> None:
    shown = dashboard()
    of_dashboard = jsonschema.Draft7Validator(schema(TYPES / "dashboard" / "x" / "types.gen.d.ts", "Dashboard"))
    assert [str(error) for error in of_dashboard.iter_errors(shown)] == []
    for kind in {panel["type"] for panel in shown["panels"]}:
        file = TYPES / "composable" / kind / "panelcfg" / "x" / "types.gen.d.ts"
        options = jsonschema.Draft7Validator(schema(file, "Options"))
        fields = jsonschema.Draft7Validator(schema(file, "FieldConfig")) if kind == "timeseries" else None
        for panel in shown["panels"]:
            if panel["type"] == kind:
                options.validate(panel["options"])
                custom = panel["fieldConfig"]["defaults"].get("custom", {})
                assert fields is not None or custom == {}
                if fields is not None:
                    fields.validate(custom)


@needs_grafana
def test_grafanas_types_see_what_is_wrong() -> None:
    of_dashboard = jsonschema.Draft7Validator(schema(TYPES / "dashboard" / "x" / "types.gen.d.ts", "Dashboard"))
    for break_it in (
        lambda shown: shown.update(panel=[]),
        lambda shown: shown.pop("schemaVersion"),
        lambda shown: shown["panels"][0]["gridPos"].update(x="left"),
        lambda shown: shown["templating"]["list"][0].update(type="data source"),
        lambda shown: shown["panels"][0]["fieldConfig"]["defaults"]["thresholds"].update(mode="none"),
    ):
        shown = copy.deepcopy(dashboard())
        break_it(shown)
        assert list(of_dashboard.iter_errors(shown))


def test_panels_neither_overlap_nor_hide() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


# ---------------------------------------------------------------------------------------------------------------------
# The document


def test_alerts_and_dashboard_name_what_is_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(comfy_auth_\w+)`", page, re.M))
    used = "\n".join([(FOLDER / "alerts.yml").read_text(), *expressions_of_the_dashboard()])
    assert set(re.findall(r"comfy_auth_\w+", used)) <= documented
    for alert in re.findall(r"alert: (\w+)", used):
        assert f"`{alert}`" in page
