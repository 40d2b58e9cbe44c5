"""Settings: where they come from, and what is refused."""

from __future__ import annotations

import pytest

from api.roles.settings import Settings
from iqdb_core.errors import ConfigError


def test_options_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"IQDB_MAX_PIXELS": "1000", "IQDB_TOKEN": "secret", "PATH": "x"}
    settings = Settings.from_environment(environment, max_pixels=5, link=None)
    assert (settings.max_pixels, settings.token, settings.link) == (5, "secret", "")


@pytest.mark.parametrize(
    ("name", "text"), [("IQDB_MAX_PIXELS", "many"), ("IQDB_MAX_PIXELS", "0"), ("IQDB_POLL_S", "-1")]
)
def test_values_that_cannot_work_are_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"(?i){name.removeprefix('IQDB_')}"):
        Settings.from_environment({name: text})


@pytest.mark.parametrize(
    ("settings", "directory"),
    [
        (Settings(database_url="a/b.sqlite"), "a/b.sqlite.index"),
        (Settings(database_url="sqlite:////tmp/b.sqlite"), "/tmp/b.sqlite.index"),  # noqa: S108
        (Settings(database_url="postgresql://h/d"), "iqdb.index"),
        (Settings(database_url="postgresql://h/d", index_dir="elsewhere"), "elsewhere"),
    ],
)
def test_index_directory(settings: Settings, directory: str) -> None:
    assert settings.index_directory() == directory


def test_query_urls_are_split_and_trimmed() -> None:
    assert Settings(query_urls=" http://a:1/, http://b:2 ,").query_url_list() == ["http://a:1", "http://b:2"]
