"""The documents are true: named paths and settings exist, every setting and status is documented."""

from __future__ import annotations

import ast
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from api.roles.cli import COMMANDS, load
from api.web.document.queries import FIND_BY_GET
from api.web.errors import STATUSES
from iqdb_client import Client, Question
from iqdb_core.settings import OF_OTHERS, PREFIX, Settings, fields_of, flags_of, shown_default
from iqdb_core.settings_page import settings_page
from iqdb_core.settings_terms import ROLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
LOG_CALLS = {
    f"log.{level}" for level in ("debug", "info", "warning", "error", "exception", "critical", "log")
}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_named_paths_exist(document: str) -> None:
    named = re.findall(
        r"`((?:api|worker|iqdb_core|tests|benchmarks)/[\w/.-]*)`", (ROOT / document).read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_every_line_of_the_log_has_an_action_for_machines() -> None:
    files = [path for folder in ("api", "worker", "iqdb_core") for path in (ROOT / folder).rglob("*.py")]
    calls = [
        (path.name, node.lineno, [argument.arg for argument in node.keywords])
        for path in files
        if "log." in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in LOG_CALLS
    ]
    assert len(calls) > 40
    assert [call for call in calls if "extra" not in call[2]] == []


def test_the_files_of_the_code_map_exist() -> None:
    folder, named = None, []
    for line in ARCHITECTURE.splitlines():
        if line.startswith("#"):
            heading = re.match(r"### [^`]*`([\w/]+)/`", line)
            folder = heading and ROOT / heading[1]
        elif folder and line.startswith("| `"):
            named += [folder / name for name in re.findall(r"`([\w./]+)`", line.split("|")[1])]
    assert ROOT / "worker" / "tasks.py" in named
    assert [path for path in named if not path.exists()] == []


def test_the_page_of_settings_is_made_from_the_model() -> None:
    """Make it again with: python -m iqdb_core.settings_page > docs/settings.md."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=str)
def test_tables_of_settings_agree_with_the_model(document: Path) -> None:
    for line in document.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        places = [number for number, cell in enumerate(cells) if re.fullmatch(r"`IQDB_\w+`", cell)]
        if not line.startswith("|") or not places:
            continue
        name = cells[places[0]].strip("`").removeprefix("IQDB_").lower()
        assert name in Settings.model_fields, line
        assert cells[places[0] + 1] == shown_default(name), line
        if places[0] > 0:
            assert cells[0] == ", ".join(f"`{flag.partition('/')[0]}`" for flag in flags_of(name)), line


def test_variables_that_documents_name_are_settings() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | OF_OTHERS
    named = {
        variable: path.name
        for path in tracked()
        if path.suffix in {".md", ".yml", ".conf", ".service"} or path.name in {"Dockerfile", "Procfile"}
        if path.name != "CHANGELOG.md"  # it also names those that were removed
        for variable in re.findall(r"\bIQDB_[A-Z_]*[A-Z]\b", path.read_text())
    }
    assert {"IQDB_TOKEN", "IQDB_API_PORT"} <= named.keys()
    assert {variable: place for variable, place in named.items() if variable not in known} == {}


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_a_role_is_an_option_of_its_command(role: str) -> None:
    parameters = load(role).params
    given = {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)}
    for name in fields_of(role):
        assert name in given or set("/".join(flags_of(name)).split("/")) <= given


def test_every_thread_is_in_the_list_of_threads() -> None:
    code = "\n".join(
        path.read_text() for room in ("api", "iqdb_core", "worker") for path in (ROOT / room).rglob("*.py")
    )
    named = set(re.findall(r'thread_name_prefix="([\w-]+)"', code))
    named |= set(re.findall(r'\b(?:(?:Detached)?Thread|in_detached_thread)\([^\n]*\bname="([\w-]+)"', code))
    assert {"follower", "decode", "load"} <= named
    [threads] = re.findall(r"^- \*\*Threads\*\*: (.*?)^- ", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", threads)) == named


def test_every_user_of_pillow_is_named() -> None:
    signature = ROOT / "iqdb_core" / "signature"
    users = {
        path.relative_to(signature).parts[0].removesuffix(".py")
        for path in signature.rglob("*.py")
        if re.search(r"^\s*(?:from|import) PIL\b", path.read_text(), re.MULTILINE)
    }
    [named] = re.findall(r"^Only (.*) use Pillow", ARCHITECTURE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == users


def test_every_role_and_status_is_documented() -> None:
    commands = (ROOT / "docs" / "commands.md").read_text()
    for role in COMMANDS:
        assert f"iqdb {role}" in commands
    api = (ROOT / "docs" / "api.md").read_text()
    for status in {int(status) for status in STATUSES.values()} - {500}:
        assert f"| {status} |" in api


def test_every_method_of_the_client_is_documented() -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    cells = re.findall(r"^\| (`[^|]*)", page, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)\(", cell)}
    assert documented == {name for name in vars(Client) if not name.startswith("_")} - {"close"}


def test_the_client_sends_every_parameter_of_a_query() -> None:
    described = {parameter["name"] for parameter in FIND_BY_GET["parameters"]}
    sent = {field.name for field in fields(Question)}
    assert sent == described - {"hash", "post_id"}
    assert Question(**dict.fromkeys(sent - {"exclude"}, 1), exclude=(1,)).parameters().keys() == sent


def test_commands_of_celery_and_honcho_do_what_the_documents_mean() -> None:
    """Without an application Celery asks a broker that nobody has; honcho ends all with the release."""
    entries = {line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()}
    for document in sorted((ROOT / "docs").glob("*.md")):
        text = document.read_text()
        for arguments in re.findall(r"(?:^ {4}|`)celery ([^`\n]*)", text, re.MULTILINE):
            assert arguments.startswith("-A worker.celery"), document.name
        for roles in re.findall(r"honcho start([^`\n]*)", text):
            assert {*roles.split(), "release"} == entries, document.name


def test_files_stay_small_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) > 450
    }
    assert long == {}


def test_nothing_large_is_committed() -> None:
    """What a program leaves behind in the folder is easily added with the rest."""
    large = {str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > 4 * 1024 * 1024}
    assert large == set()


def test_fixtures_stay_small() -> None:
    sizes = [path.stat().st_size for path in tracked() if "fixtures" in path.parts]
    assert sum(sizes) < 15 * 1024 * 1024


def test_nothing_names_a_machine() -> None:
    pattern = re.compile(r"/(?:root|work|home)/[a-z]")
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".yml", ".toml", ".js", ".html", ""} and path.name != "Dockerfile"
        for line in path.read_text(errors="replace").splitlines()
        if pattern.search(line) and path != Path(__file__)
    ]
    assert found == []
