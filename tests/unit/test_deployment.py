"""Procfile, container image and compose file start exactly the roles there are, and fit together."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement

from api.roles import front_end, query_node
from api.roles.cli import COMMANDS, load
from api.roles.index_slots import PLACE
from api.roles.process import GRACE_S, KEEP_ALIVE_S
from api.roles.queue_parts import connect_redis, query_urls_of
from api.search.discovery import PREFIX
from api.web.reading.requests import MAX_ID_DIGITS
from api.web.reading.window import MAX_EXCLUDED
from iqdb_core.errors import WrongUsage
from iqdb_core.model import MAX_SOURCE_CHARACTERS
from iqdb_core.settings import OF_OTHERS, Settings, group_of
from iqdb_core.settings_terms import Group
from iqdb_core.store.address import parse_address
from worker.ending import LEAVE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"migrate", "api", "worker", "query"}
SETTINGS = {f"IQDB_{name.upper()}" for name in Settings.model_fields}


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(re.fullmatch(r"(\w+): (.+)", line).groups() for line in lines)  # type: ignore[union-attr]


def words_of(command: str) -> list[str]:
    """Return what follows `iqdb`, with the defaults of shell variables put in."""
    words = shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command.removeprefix("exec ")))
    assert words[0] == "iqdb"
    return words[1:]


def role_of(words: list[str]) -> str:
    """Return the role, if it is one and takes these arguments."""
    assert words[0] in COMMANDS
    load(words[0]).make_context(words[0], words[1:])
    return words[0]


def port_of(words: list[str]) -> int:
    return int(load(words[0]).make_context(words[0], words[1:]).params["port"])


def test_the_procfile_has_one_line_for_every_role() -> None:
    roles = {name: role_of(words_of(command)) for name, command in procfile().items()}
    assert roles == {"release": "upgrade", "api": "api", "worker": "worker", "query": "query"}


def test_long_running_commands_replace_their_shell() -> None:
    """Else a process manager ends the shell and believes that the server has ended."""
    assert all(command.startswith("exec ") for name, command in procfile().items() if name != "release")


def test_front_ends_find_the_query_node_of_the_procfile() -> None:
    assert Settings().query_urls == f"http://127.0.0.1:{port_of(words_of(procfile()['query']))}"


def test_variables_that_the_files_read_themselves_are_known() -> None:
    texts = (ROOT / "Procfile").read_text(), (ROOT / "docker-compose.yml").read_text()
    assert {name for text in texts for name in re.findall(r"\$\{(IQDB_\w+)", text)} <= OF_OTHERS | SETTINGS


def test_compose_starts_every_role_and_its_two_services() -> None:
    assert set(SERVICES) == OURS | {"redis", "postgres"}
    roles = {name: role_of(SERVICES[name]["command"]) for name in OURS}
    assert roles == {"migrate": "upgrade", "api": "api", "worker": "worker", "query": "query"}


def test_only_the_front_end_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert SERVICES["api"]["ports"] == ["${IQDB_PORT:-5588}:5588"]
    assert port_of(SERVICES["api"]["command"]) == 5588
    assert not any("network_mode" in service for service in SERVICES.values())


def test_workers_and_query_nodes_can_be_scaled() -> None:
    for name in ("worker", "query"):
        assert not {"ports", "container_name", "hostname"} & set(SERVICES[name])
    assert "volumes" not in SERVICES["worker"]
    assert SERVICES["api"]["environment"]["IQDB_QUERY_URLS"].startswith(PREFIX)


def test_images_are_pinned_to_exact_versions() -> None:
    images = [SERVICES[name]["image"] for name in ("redis", "postgres")]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?-[\w-]+", image), image


def test_the_lock_file_has_every_dependency_in_a_version_that_fits_and_with_its_hash() -> None:
    """When it fails, dependencies have changed: run .ci/lock."""
    text = (ROOT / "requirements.lock").read_text()
    hashes = r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
    locked = dict(re.findall(rf"^(\S+)==(\S+) \\\n{hashes}", text, re.MULTILINE))
    assert len(locked) == text.count("==")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for line in (*project["project"]["dependencies"], *project["build-system"]["requires"]):
        requirement = Requirement(line)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(locked[name]), line
    # pip resolves for the Python it runs on; that of Debian 12 needs something more. What the locked versions
    # need is known of those that are installed.
    installed = {(one.name.lower(), one.version) for one in importlib.metadata.distributions()}
    needed = {
        re.sub(r"[-_.]+", "-", requirement.name).lower()
        for name, _ in set(locked.items()) & installed
        for requirement in map(Requirement, importlib.metadata.requires(name) or ())
        if requirement.marker is None
        or requirement.marker.evaluate({"python_full_version": "3.11.2", "python_version": "3.11"})
    }
    assert needed
    assert needed <= set(locked)


def test_everything_that_stays_up_has_a_health_check_and_is_restarted() -> None:
    for name in set(SERVICES) - {"migrate"}:
        assert SERVICES[name]["healthcheck"]["test"], name
        assert SERVICES[name]["restart"] == "unless-stopped", name


def test_roles_start_after_their_dependencies() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in OURS - {"migrate"}:
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }


def test_settings_are_ones_that_exist_and_reach_the_services() -> None:
    for name in OURS:
        environment = SERVICES[name]["environment"]
        assert set(environment) <= SETTINGS
        assert "@postgres/" in environment["IQDB_DATABASE_URL"]
        assert environment["IQDB_REDIS_URL"].startswith("redis://redis:")
        assert environment["IQDB_QUERY_URLS"] == "dns+http://query:5589"
    assert port_of(SERVICES["query"]["command"]) == 5589
    assert SERVICES["postgres"]["environment"]["POSTGRES_DB"] == "iqdb"


def test_settings_of_rights_are_passed_to_the_front_end() -> None:
    """Else an operator's tokens are dropped without a word."""
    asked = {name for name, field in Settings.model_fields.items() if group_of(field) is Group.ACCESS}
    assert {"token", "tokens", "private"} <= asked
    environment = SERVICES["api"]["environment"]
    for variable in sorted(f"IQDB_{name.upper()}" for name in asked):
        assert re.fullmatch(rf"\$\{{{variable}:-\w*\}}", environment.get(variable, "")), variable


def test_roles_get_their_settings_from_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As each role reads them when it starts; what is behind the addresses is not asked yet."""
    applications = {
        "api": lambda settings: front_end.create_app(
            settings, host=SERVICES["api"]["command"][1], on_ready=nothing, on_failure=nothing
        ),
        "query": lambda settings: query_node.create_app(settings, on_ready=nothing, on_failure=nothing),
        "worker": connect_redis,
        "migrate": lambda settings: parse_address(settings.database_url),
    }
    assert set(applications) == OURS
    for name, take in applications.items():
        for variable, value in SERVICES[name]["environment"].items():
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
        assert take(Settings.read()) is not None


@pytest.mark.parametrize(
    "url", ["dns+https://query:5589", "dns+query:5589", "dns+", "dns+dns+http://query", "query"]
)
def test_addresses_that_cannot_be_query_nodes_are_refused(url: str) -> None:
    with pytest.raises(WrongUsage, match="are addresses like"):
        query_urls_of(Settings.read(query_urls=f"http://127.0.0.1:5589,{url}"))


@pytest.mark.parametrize("url", ["dns+http://query", "http://[::1]:5589", "https://query.example.org/node"])
def test_addresses_of_query_nodes_are_taken(url: str) -> None:
    assert query_urls_of(Settings.read(query_urls=f"{url}/, dns+http://query:5589")) == [
        url,
        "dns+http://query:5589",
    ]


def nothing(*_: object) -> None:
    pass


def test_redis_keeps_what_was_accepted_and_refuses_when_full() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    maxmemory = int(options["--maxmemory"].removesuffix("gb")) * 1024**3
    assert int(SERVICES["api"]["environment"]["IQDB_MAX_QUEUE_BYTES"]) <= maxmemory / 2


def test_data_is_in_named_volumes() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"]) == {"index", "postgres", "redis"}
    index = SERVICES["query"]["volumes"][0].split(":")[1]
    assert f" {index}\n" in (ROOT / "Dockerfile").read_text()  # whose owner the volume takes over
    assert SERVICES["query"]["environment"]["IQDB_INDEX_DIR"] == f"{index}/{PLACE}"


def test_workers_get_time_to_finish() -> None:
    grace_s = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings().task_time_limit_s + LEAVE_S


def test_front_ends_and_query_nodes_get_time_to_finish() -> None:
    for name in ("api", "query"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > GRACE_S


def test_nginx_passes_every_request_that_the_server_accepts() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    [megabytes] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(megabytes) * 1024**2 >= Settings.model_fields["max_batch_bytes"].default
    [kilobytes] = re.findall(r"large_client_header_buffers \d+ (\d+)k;", text)
    escaped_source = MAX_SOURCE_CHARACTERS * len("%f0%9f%98%80")
    assert int(kilobytes) * 1024 >= max(escaped_source, MAX_EXCLUDED * (MAX_ID_DIGITS + len("%2c")))
    assert f"server 127.0.0.1:{port_of(words_of(procfile()['api']))};" in text
    proxy = (ROOT / "deploy" / "iqdb-proxy.conf").read_text()
    [seconds] = re.findall(r"proxy_read_timeout (\d+)s;", proxy)
    assert int(seconds) > Settings.model_fields["add_timeout_s"].default
    [seconds] = re.findall(r"keepalive_timeout (\d+)s;", text)
    assert int(seconds) < KEEP_ALIVE_S
    assert "limit_req_status 429;" in text
    assert "limit_conn_status 429;" in text
    for line in (*text.splitlines(), *proxy.splitlines()):
        code = line.partition("#")[0].strip()
        assert not code or code[-1] in ";{}", line
    assert text.count("{") == text.count("}")


def test_errors_of_nginx_have_the_form_of_the_servers() -> None:
    """In JSON, with Retry-After where trying again helps; and it never refuses those who watch the server."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    pages = dict(re.findall(r"error_page ([\d ]+) = (@\w+|/\S+);", text))
    refused = {status: page for statuses, page in pages.items() for status in statuses.split()}
    assert set(refused) == {"400", "413", "414", "429", "494", "502", "504"}
    blocks = dict(re.findall(r"^    location (\S[^{\n]*) \{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL))
    answered = {}
    for page in pages.values():
        # A line that cannot be read gives nginx no path, and from there it goes to no location with a name.
        is_named = page.startswith("@")
        assert is_named == (page not in {refused["400"], refused["414"]})
        name = page if is_named else f"= {page}"
        assert is_named or "internal;" in blocks[name]
        [status, body] = re.findall(r"return (\d+) '(.*)';", blocks[name])[0]
        assert set(json.loads(body)) == {"message"}
        assert "default_type application/json;" in blocks[name]
        answered[name] = int(status)
        assert ("add_header Retry-After 1 always;" in blocks[name]) == (answered[name] in {429, 503}), name
    assert set(answered.values()) == {400, 413, 414, 429, 503}
    assert "limit_req" in blocks["/"]
    for path in ("= /live", "= /ready"):
        assert "proxy_pass http://iqdb;" in blocks[path]
        assert "limit_" not in blocks[path]


def service_of(unit: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / "systemd" / unit)
    return dict(parser["Service"])


def test_the_unit_starts_a_role_and_gives_it_time() -> None:
    service = service_of("iqdb.service")
    words = shlex.split(service["ExecStart"])
    assert Path(words[0]).name == "iqdb"
    assert role_of(words[1:]) == "http"
    assert int(service["TimeoutStopSec"]) > GRACE_S
    assert service["StateDirectory"] == Path(words[-1]).parent.name


def test_the_unit_of_all_other_roles_differs_in_nothing_else() -> None:
    """They are one user, since systemd gives the folders that they share to the one that starts."""
    service, roles = service_of("iqdb.service"), service_of("iqdb@.service")
    changed = {name for name in service | roles if service.get(name) != roles.get(name)}
    assert changed == {"ExecStart", "EnvironmentFile", "User"}
    command = roles["ExecStart"].removeprefix("/opt/iqdb/bin/iqdb ")
    assert command == "%i"
    assert int(roles["TimeoutStopSec"]) > Settings().task_time_limit_s + LEAVE_S
    named = set(re.findall(r"\biqdb@(\w+)", (ROOT / "docs" / "scaling.md").read_text()))
    assert {role_of([name]) for name in named} == {"api", "worker", "query"}


def test_images_are_copied_into_the_database_that_compose_starts() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    [command] = re.findall(r"docker compose run .* migrate (migrate /old.*)", text)
    assert role_of(words_of(f"iqdb {command}")) == "migrate"
    address = SERVICES["migrate"]["environment"]["IQDB_DATABASE_URL"]
    assert command.endswith(f'"{address.replace("${POSTGRES_PASSWORD:-iqdb}", "$POSTGRES_PASSWORD")}"')


def test_containers_have_no_rights_they_do_not_need() -> None:
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in OURS:
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_the_image_is_built_from_files_that_exist_and_runs_without_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["iqdb"]
    copied = [line.split()[:-1] for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)]
    sources = [word.removeprefix("./") for words in copied for word in words if not word.startswith("--")]
    sources += re.findall(r"source=([^,]+)", text)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in allowed), source


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, with the entry point and some kernels in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "kernels" / "room").mkdir(parents=True)
        (folder / "kernels" / "room" / "one.nbc").write_text("compiled")
        (folder / "temporary").mkdir()
        (folder / "temporary").chmod(0o777)
        shutil.copy(ROOT / ".ci" / "container-entrypoint", folder)
        yield folder


def kernels_used(folder: Path, **options: Any) -> Path:
    run = subprocess.run(
        ["/bin/sh", folder / "container-entrypoint", "/bin/sh", "-c", "echo $NUMBA_CACHE_DIR"],
        env={
            "PATH": os.environ["PATH"],
            "NUMBA_CACHE_DIR": str(folder / "kernels"),
            "TMPDIR": str(folder / "temporary"),
        },
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        **options,
    )
    assert run.stderr == ""
    return Path(run.stdout.strip())


def test_kernels_stay_where_they_can_be_written(folder: Path) -> None:
    assert kernels_used(folder) == folder / "kernels"


def test_kernels_are_copied_from_where_they_cannot_be_written(folder: Path) -> None:
    for path in (folder / "kernels" / "room", folder / "kernels"):
        path.chmod(0o555)
    # Root may write anywhere, so it asks for somebody else.
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    copy = kernels_used(folder, **user)
    assert copy.parent == folder / "temporary"
    assert (copy / "room" / "one.nbc").read_text() == "compiled"
    assert (copy / "room").stat().st_mode & 0o200


@pytest.mark.long
def test_the_image_is_built_with_its_kernels_compiled(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text()
    [module] = re.findall(r"^RUN python -m (\S+)$", text, re.MULTILINE)

    def fill() -> set[Path]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, env=environment, check=True)
        return set(tmp_path.rglob("*.nbc"))

    compiled = fill()
    assert len(compiled) > 20
    assert fill() == compiled  # the second process found all of them


def test_the_wheel_carries_every_file_that_is_read_at_run_time() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    tracked = subprocess.run(
        ["git", "ls-files", "api", "worker", "iqdb_core", "iqdb_client"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    left_out = {
        name
        for name in tracked
        if not name.endswith(".py") and not any(Path(name).match(pattern) for pattern in patterns)
    }
    assert left_out == set()
