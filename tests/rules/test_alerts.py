"""What servers report is documented and watched: gauges, `/status`, alert rules and jobs agree."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from api.web.document.health import STATUS
from iqdb_core.following import FollowerState

ROOT = Path(__file__).parents[2]
MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
PROMETHEUS = ROOT / "deploy" / "prometheus"
JOBS = (PROMETHEUS / "prometheus.yml").read_text()
GAUGE = re.compile(r"iqdb_\w+")
TROUBLE = re.compile(r"iqdb_\w+_(?:trouble|up|state|lag_seq|age_seconds|oldest_seconds)|iqdb_lag_seq")
"""Names of gauges that say that something is wrong, or has been waiting for too long."""


def documented() -> set[str]:
    rows = [line.split("|")[1] for line in MONITORING.splitlines() if line.startswith("| `")]
    return {name for cell in rows for name in GAUGE.findall(cell)}


def measured() -> set[str]:
    """Return the gauges that the code makes."""
    code = "\n".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))
    return set(re.findall(r'\b(?:gauge|_one_of)\(\s*"(iqdb_\w+)"', code))


def alerted() -> set[str]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return {name for group in groups for rule in group["rules"] for name in GAUGE.findall(rule["expr"])}


def jobs_of(text: str) -> dict[str, Any]:
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def test_every_gauge_is_documented() -> None:
    assert {"iqdb_write_trouble", "iqdb_lag_seq"} <= measured()
    assert measured() - documented() == set()


def test_every_field_of_the_status_is_documented() -> None:
    content = STATUS["responses"]["200"]["content"]["application/json"]
    fields = content["schema"]["properties"].keys() | {state.value for state in FollowerState}
    assert {"disk_error", "store away"} <= fields
    assert fields - set(re.findall(r'[`"]([a-z_ ]+)[`".]', MONITORING)) == set()


def test_every_gauge_of_trouble_has_an_alert() -> None:
    of_trouble = {name for name in measured() | documented() if TROUBLE.fullmatch(name)}
    assert {"iqdb_write_trouble", "iqdb_maintenance_trouble", "iqdb_follower_state"} <= of_trouble
    assert of_trouble - alerted() == set()


def test_the_job_for_a_server_in_one_process_asks_where_the_unit_listens() -> None:
    """It is there as a comment, since this server has no use for the other jobs."""
    found = jobs_of(re.sub(r"^  # (?=- |  )", "  ", JOBS, flags=re.MULTILINE))
    (name,) = found.keys() - jobs_of(JOBS).keys()
    unit = configparser.ConfigParser(strict=False)
    unit.read(ROOT / "deploy" / "systemd" / "iqdb.service")
    _, _, host, port, _ = shlex.split(unit["Service"]["ExecStart"])
    assert found[name]["static_configs"] == [{"targets": [f"{host}:{port}"]}]
    for job in found:
        assert re.fullmatch("iqdb.*", job), "the rule IqdbDown passes over it"
