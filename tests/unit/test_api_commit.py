"""Group commit: what piles up goes together, nobody is left waiting, nothing is lost."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from api.ingestion import group_commit
from api.ingestion.group_commit import MAX_GROUP, GroupCommitter
from iqdb_core.errors import ConfigError, IqdbError, StoreUnavailable
from iqdb_core.model import ChangeBatch, Write, WriteOutcome
from iqdb_core.store.columns import empty_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = empty_batch()


class SlowStore:
    """Holds its first commit until told to go on, and remembers every group."""

    def __init__(self) -> None:
        self.groups: list[list[Write]] = []
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.error: Exception | None = None

    def apply_and_read(self, writes: Sequence[Write]) -> tuple[list[WriteOutcome], ChangeBatch]:
        self.entered.set()
        assert self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.groups.append(list(writes))
        return [WriteOutcome(write.revision, is_stale=False) for write in writes], NOTHING


def test_writes_that_arrive_during_a_commit_share_the_next_one() -> None:
    store, commits = SlowStore(), []

    def on_commit(_: ChangeBatch) -> bool:
        commits.append(len(store.groups))
        return len(commits) > 1

    committer = GroupCommitter(store, on_commit)
    first = committer.submit(Write(1, 1, None))
    assert store.entered.wait(10)
    later = [committer.submit(Write(number, number, None)) for number in range(2, 102)]
    store.go_on.set()
    assert [future.result(10).outcome.seq for future in (first, *later)] == list(range(1, 102))
    assert [len(group) for group in store.groups] == [1, 100]
    assert commits == [1, 2]
    assert [future.result(10).is_applied for future in (first, *later)] == [False] + [True] * 100
    committer.close()


def test_a_group_is_bounded() -> None:
    store = SlowStore()
    committer = GroupCommitter(store, lambda _: False)
    futures = [committer.submit(Write(0, 0, None))]
    assert store.entered.wait(10)
    futures += [committer.submit(Write(number, number, None)) for number in range(MAX_GROUP + 1)]
    store.go_on.set()
    for future in futures:
        future.result(10)
    assert [len(group) for group in store.groups] == [1, MAX_GROUP, 1]
    committer.close()


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError("a bug")])
def test_a_failed_commit_fails_its_writes_and_the_next_one_works(error: Exception) -> None:
    store = SlowStore()
    store.go_on.set()
    store.error = error
    committer = GroupCommitter(store, lambda _: False)
    with pytest.raises(type(error)):
        committer.submit(Write(1, 1, None)).result(10)
    store.error = None
    assert committer.submit(Write(1, 2, None)).result(10).outcome.seq == 2
    committer.close()


def test_repeated_failures_of_the_store_are_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SlowStore()
    store.go_on.set()
    committer = GroupCommitter(store, lambda _: False)

    def fail(error: IqdbError) -> list[str]:
        store.error = error
        caplog.clear()
        with pytest.raises(type(error)):
            committer.submit(Write(1, 1, None)).result(10)
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    told = [fail(StoreUnavailable("the disk is full")) for _ in range(20)]
    assert told == [["writes are refused: the disk is full"]] + [[]] * 19
    assert committer.last_error == "the disk is full"
    store.error = None
    with caplog.at_level(logging.INFO):
        committer.submit(Write(1, 2, None)).result(10)
    assert "writes are stored again" in caplog.text
    assert committer.last_error is None
    assert fail(ConfigError("no trouble of the store")) == []
    assert committer.last_error is None
    monkeypatch.setattr(group_commit, "WARN_AGAIN_S", 0.0)
    assert fail(StoreUnavailable("still full")) == ["writes are refused: still full"]
    committer.close()


def test_close_commits_what_was_submitted_and_refuses_more() -> None:
    store = SlowStore()
    committer = GroupCommitter(store, lambda _: False)
    futures = [committer.submit(Write(number, number, None)) for number in range(10)]
    store.go_on.set()
    committer.close()
    assert [future.result(0).outcome.seq for future in futures] == list(range(10))
    with pytest.raises(StoreUnavailable):
        committer.submit(Write(1, 1, None))
    committer.close()


def test_a_cancelled_write_does_not_end_the_committer() -> None:
    store = SlowStore()
    committer = GroupCommitter(store, lambda _: False)
    cancelled = committer.submit(Write(1, 1, None))
    assert cancelled.cancel()
    store.go_on.set()
    assert committer.submit(Write(2, 2, None)).result(10).outcome.seq == 2
    committer.close()


def test_a_cancelled_write_in_a_commit_that_fails_does_not_end_the_committer_either() -> None:
    store = SlowStore()
    committer = GroupCommitter(store, lambda _: False)
    first = committer.submit(Write(1, 1, None))
    assert store.entered.wait(10)
    assert committer.submit(Write(2, 2, None)).cancel()
    store.error = StoreUnavailable("away")
    store.go_on.set()
    for future in (first, committer.submit(Write(3, 3, None))):
        with pytest.raises(StoreUnavailable):
            future.result(10)
    store.error = None
    assert committer.submit(Write(4, 4, None)).result(10).outcome.seq == 4
    committer.close()
