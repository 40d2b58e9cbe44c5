"""What Prometheus reads from real processes, and that dashboard and alerts ask for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from iqdb_core.following import FollowerState
from tests.fixtures.cluster import Cluster, running_cluster
from tests.fixtures.noise import noise_png
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "iqdb.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
WORDS = re.compile(r"\b(?:iqdb|process)_[a-z_]+\b")

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def samples_of(client: httpx.Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("metrics")
    with running_cluster(folder, str(folder / "iqdb.sqlite"), workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    file = tmp_path_factory.mktemp("metrics") / "iqdb.sqlite"
    with embedded_server(file, "--checkpoint-s", "0.1") as running:
        yield running


def test_requests_and_stages_are_counted(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite") as fresh:
        client = fresh.client
        for number in (1, 2):
            assert client.post(f"/images/{number}", files={"file": noise_png(number)}).status_code == 200
        assert client.post("/query", files={"file": noise_png(1)}).status_code == 200
        client.get("/images/99")
        client.get("/no/such/path")
        client.put("/images/1/")
        client.get("/openapi.json")
        client.request("BREW", "/images/1")
        samples = samples_of(client)

    def requests(method: str, route: str, status: str) -> float:
        return samples["iqdb_requests_total"][(("method", method), ("route", route), ("status", status))]

    assert requests("POST", "/images/{image_id}", "200") == 2
    assert requests("POST", "/query", "200") == 1
    assert requests("GET", "/images/{image_id}", "404") == 1
    assert requests("GET", "other", "404") == 1
    assert requests("PUT", "/images/{image_id}", "405") == 1
    assert requests("GET", "/openapi.json", "200") == 1
    methods = {dict(labels)["method"] for labels in samples["iqdb_requests_total"]}
    assert methods <= {"GET", "POST", "PUT", "other"}
    stages = {dict(labels)["stage"]: count for labels, count in samples["iqdb_stage_seconds_count"].items()}
    assert stages == {"decode": 3, "hash": 3, "scan": 1, "commit": 2}
    assert all(seconds > 0 for seconds in samples["iqdb_stage_seconds_sum"].values())
    assert samples["iqdb_images"][()] == 2
    assert samples["iqdb_lag_seq"][()] == 0
    assert samples["process_resident_memory_bytes"][()] > 2**20
    assert samples["iqdb_follower_state"][(("state", "following"),)] == 1


def test_requests_that_are_refused_before_they_are_routed_are_counted_by_route(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite", "--tokens", "admin:secret") as fresh:
        assert fresh.client.post("/images/9", files={"file": noise_png(1)}).status_code == 401
        assert fresh.client.post("/nowhere/9", files={"file": noise_png(1)}).status_code == 401
        admin = {"Authorization": "Bearer secret"}
        assert fresh.client.delete("/query", headers=admin).status_code == 405
        fresh.client.headers.update(admin)
        samples = samples_of(fresh.client)["iqdb_requests_total"]
    told = {(one["method"], one["route"], one["status"]) for one in map(dict, samples)}
    assert told >= {
        ("POST", "/images/{image_id}", "401"),
        ("POST", "other", "401"),
        ("DELETE", "/query", "405"),
    }


def test_front_ends_tell_of_the_queue_and_of_the_nodes(cluster: Cluster) -> None:
    client = cluster.client
    assert client.post("/images/1", files={"file": noise_png(1)}).status_code == 200
    wait_until(lambda: samples_of(client)["iqdb_workers"][()] == 1, 60)
    samples = samples_of(client)
    assert samples["iqdb_queue_up"][()] == 1
    url = f"http://127.0.0.1:{cluster.query_ports[0]}"
    ready = (("node", url), ("state", "ready"))
    assert samples["iqdb_node_state"][ready] == 1
    # Workers add up what they did now and then, while they work.
    numbers = iter(range(2, 1000))

    def works() -> bool:
        client.post(f"/images/{next(numbers)}", files={"file": noise_png(2)})
        counts = samples_of(client)["iqdb_worker_stage_seconds_count"]
        return {dict(labels)["stage"] for labels, count in counts.items() if count} == {
            "decode",
            "hash",
            "commit",
        }

    wait_until(works, 60)
    assert all(seconds > 0 for seconds in samples_of(client)["iqdb_worker_stage_seconds_sum"].values())
    cluster.redis.kill()
    try:
        wait_until(lambda: samples_of(client)["iqdb_queue_up"][()] == 0, 60)
    finally:
        cluster.redis.start()


def test_dashboard_and_alerts_ask_for_what_there_is(cluster: Cluster, server: ServerProcess) -> None:
    assert server.client.post("/images", files={"7": noise_png(7)}).status_code == 200
    assert cluster.client.post("/query", files={"file": noise_png(7)}).status_code == 200
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    expressions += [rule["expr"] for rule in rules]
    assert len(expressions) > 20
    asked = {expression: set(WORDS.findall(expression)) for expression in expressions}
    roles = [cluster.client, cluster.queries[0].client, server.client]
    missing = set().union(*asked.values())

    def is_all_there() -> bool:  # some are told once there was something to tell: a checkpoint, a worker
        missing.difference_update(*map(samples_of, roles))
        return not missing

    try:
        wait_until(is_all_there, 60, every_s=0.2)
    except AssertionError:
        raise AssertionError(f"not told: {missing}") from None
    for expression, words in asked.items():
        assert words or expression.startswith("up{"), expression
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_an_alert_fires_for_every_state_in_which_an_index_does_not_follow() -> None:
    expressions = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    excluded = [re.findall(r'iqdb_follower_state\{state!~"([^"]*)"\}\) > 0', one) for one in expressions]
    passed_over = [found[0] for found in excluded if found]
    assert passed_over
    well = {FollowerState.STARTING, FollowerState.FOLLOWING, FollowerState.REBUILDING}
    for state in FollowerState:
        fires = any(re.fullmatch(words, state.value) is None for words in passed_over)
        assert fires == (state not in well), state


def test_the_dashboard_is_one() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == variables
