"""Settings: where they come from, what is refused and how it is said."""

from __future__ import annotations

import logging
import os

import pytest

from iqdb_core.errors import WrongUsage
from iqdb_core.settings import Settings, alias_of, fields_of, flags_of, shown_default
from iqdb_core.settings_terms import COMMANDS, ROLES
from iqdb_core.settings_unknown import warn_of_unknown


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IQDB_")]:
        monkeypatch.delenv(name)


def test_options_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"IQDB_MAX_PIXELS": "1000", "IQDB_TOKEN": "secret", "IQDB_SWEEP_S": "0.5"}.items():
        monkeypatch.setenv(name, text)
    settings = Settings.read(max_pixels="5", link=None, sweep_s=None)
    assert (settings.max_pixels, settings.token, settings.link, settings.sweep_s) == (5, "secret", "", 0.5)


def test_a_home_is_found_where_shells_leave_it_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    monkeypatch.setenv("IQDB_TOKEN_FILE", "~/tokens")
    settings = Settings.read(database_url="~/a.sqlite", index_dir="~nobody-of-this-name/b")
    assert (settings.database_url, settings.token_file) == ("/homes/me/a.sqlite", "/homes/me/tokens")
    assert settings.index_dir == "~nobody-of-this-name/b"


def test_a_level_of_the_log_may_be_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQDB_LOG_LEVEL", "INFO")
    assert Settings.read().log_level == "info"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQDB_MAX_PIXELS", "")
    assert Settings.read().max_pixels == 100_000_000


def test_defaults_fit_together() -> None:
    settings = Settings.read()
    assert settings.task_time_limit_s < settings.visibility_timeout_s
    assert min(settings.worker_processes, settings.decoders) >= 1


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"MAX_PIXELS": "many"}, "IQDB_MAX_PIXELS must be a whole number above 0, not 'many'"),
        ({"MAX_PIXELS": "0"}, "IQDB_MAX_PIXELS must be a whole number above 0, not '0'"),
        ({"MAX_PIXELS": "1.5"}, "IQDB_MAX_PIXELS must be a whole number above 0, not '1.5'"),
        ({"POLL_S": "-1"}, "IQDB_POLL_S must be a number of at least 0, not '-1'"),
        ({"SWEEP_S": "nan"}, "IQDB_SWEEP_S must be a number above 0, not 'nan'"),
        ({"SWEEP_S": "inf"}, "IQDB_SWEEP_S must be a number above 0, not 'inf'"),
        ({"POLL_S": "1e300"}, "IQDB_POLL_S must be at most 1,000,000,000, not '1e300'"),
        ({"DECODERS": "9" * 30}, "IQDB_DECODERS must be at most 9,007,199,254,740,991, not '999"),
        ({"VISIBILITY_TIMEOUT_S": "9" * 15}, "IQDB_VISIBILITY_TIMEOUT_S must be at most 1,000,000,000, not"),
        ({"ACCESS_LOG": "maybe"}, "IQDB_ACCESS_LOG must be true or false, not 'maybe'"),
        ({"LOG_LEVEL": "loud"}, "IQDB_LOG_LEVEL must be one of debug, info, warning, error, not 'loud'"),
        ({"TASK_TIME_LIMIT_S": "2"}, "IQDB_TASK_TIME_LIMIT_S must be a whole number of at least 10, not '2'"),
        ({"TASK_TIME_LIMIT_S": "60"}, "IQDB_TASK_TIME_LIMIT_S (60) must be below"),
        ({"VISIBILITY_TIMEOUT_S": "30"}, "must be below IQDB_VISIBILITY_TIMEOUT_S (30)"),
    ],
)
def test_invalid_values_are_refused_with_what_is_allowed(
    environment: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(f"IQDB_{name}", text)
    with pytest.raises(WrongUsage) as refused:
        Settings.read()
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["token", "tokens", "redis_url", "redis_sentinel_master", "url"])
def test_text_settings_must_be_utf8_and_a_refused_token_is_not_repeated(name: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        Settings.read(**{name: "secret\udcff"})
    sentence = f"--{name.replace('_', '-')} must be text in UTF-8, without control characters"
    assert str(refused.value) == sentence


def test_all_faults_are_said_at_once_and_by_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQDB_MAX_PIXELS", "many")
    with pytest.raises(WrongUsage, match=r"IQDB_MAX_PIXELS .*--decoders must be"):
        Settings.read(decoders="none")


def test_a_variable_that_is_no_setting_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_unknown({"IQDB_MAX_PIXEL": "1", "IQDB_QUERY_PORT": "2", "IQDB_SWEEP_S": "3", "PATH": "x"})
    assert [record.getMessage() for record in caplog.records] == [
        "IQDB_MAX_PIXEL is not a setting; did you mean IQDB_MAX_PIXELS?"
    ]


def test_every_option_belongs_to_a_role_and_is_described() -> None:
    assert set(Settings.model_fields) == {name for role in (*ROLES, COMMANDS) for name in fields_of(role)}
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("max_upload_bytes", "64 MiB"),
        ("max_queue_bytes", "2 GiB"),
        ("max_queue_jobs", "100,000"),
        ("sweep_s", "2"),
        ("token", "none"),
        ("decoders", "one per core"),
    ],
)
def test_defaults_are_shown_for_people(name: str, shown: str) -> None:
    assert shown_default(name) == shown


def test_flags() -> None:
    assert flags_of("max_pixels") == ["--max-pixels"]
    assert flags_of("worker_processes") == ["--worker-processes"]
    assert alias_of("worker_processes") == "--processes"
    assert flags_of("access_log") == ["--access-log/--no-access-log"]


@pytest.mark.parametrize(
    ("settings", "directory"),
    [
        ({"database_url": "a/b.sqlite"}, "a/b.sqlite.index"),
        ({"database_url": "sqlite:////data/b.sqlite"}, "/data/b.sqlite.index"),
        ({"database_url": "sqlite:///b.sqlite"}, "b.sqlite.index"),
        ({"database_url": "sqlite://b.sqlite"}, "b.sqlite.index"),
        ({"database_url": "postgresql://h/d"}, "iqdb.index"),
        ({"database_url": "postgresql://h/d", "index_dir": "elsewhere"}, "elsewhere"),
    ],
)
def test_index_directory(settings: dict[str, str], directory: str) -> None:
    assert Settings.read(**settings).index_directory() == directory


def test_query_urls_are_split_and_trimmed() -> None:
    urls = Settings.read(query_urls=" http://a:1/, http://b:2 ,").query_url_list()
    assert urls == ["http://a:1", "http://b:2"]
