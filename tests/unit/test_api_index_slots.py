"""Query nodes that are started alike each get an index directory of their own, and find it again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from api.roles.index_slots import claim_directory
from iqdb_core.errors import ConfigError
from tests.fixtures import programs


def test_each_process_takes_the_first_free_directory(tmp_path: Path) -> None:
    pattern = str(tmp_path / "index" / "{n}")
    with ExitStack() as first:
        assert claim_directory(pattern, first) == str(tmp_path / "index" / "0")
        with ExitStack() as second:
            assert claim_directory(pattern, second) == str(tmp_path / "index" / "1")
        with ExitStack() as third:
            assert claim_directory(pattern, third) == str(tmp_path / "index" / "1")
    with ExitStack() as again:
        assert claim_directory(pattern, again) == str(tmp_path / "index" / "0")


def test_a_killed_process_gives_its_own_back(tmp_path: Path) -> None:
    pattern = str(tmp_path / "{n}")
    program = (
        "import signal, sys; from contextlib import ExitStack\n"
        "from api.roles.index_slots import claim_directory\n"
        "kept = ExitStack(); print(claim_directory(sys.argv[1], kept), flush=True); signal.pause()"
    )
    process = programs.start(program, pattern)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == str(tmp_path / "0")
    with ExitStack() as stack:
        assert claim_directory(pattern, stack) == str(tmp_path / "1")
    programs.end(process)
    with ExitStack() as stack:
        assert claim_directory(pattern, stack) == str(tmp_path / "0")


def test_a_plain_directory_stays_as_it_is(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert claim_directory(str(tmp_path / "index"), stack) == str(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_created_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with ExitStack() as stack, pytest.raises(ConfigError, match="cannot be made"):
        claim_directory(str(tmp_path / "file" / "{n}"), stack)
