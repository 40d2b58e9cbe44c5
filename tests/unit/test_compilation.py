"""Whoever waits for the index does not wait for the rest, and nobody waits for ever."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from iqdb_core import compiling, forms
from iqdb_core.compiling import Compilation
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Everything is on disk; loading the signature's kernels takes until the gate opens."""
    gate = threading.Event()
    monkeypatch.setattr(compiling, "are_kept", lambda _: True)
    monkeypatch.setattr(compiling.index, "warm_up", lambda: None)
    monkeypatch.setattr(compiling.signature, "warm_up", lambda: gate.wait(60))
    yield gate
    gate.set()
    forms.use_preferred()


def nothing(*_: object) -> None:
    pass


def test_the_index_is_loaded_first(gate: threading.Event) -> None:
    compilation = Compilation(("signature", "index"), on_compiling=nothing, on_fast=nothing)
    compilation.wait("index")
    assert not compilation.is_fast
    gate.set()
    compilation.begin()
    compilation.wait("signature")
    wait_until(lambda: compilation.is_fast, 60)


def test_kernels_left_for_later_are_loaded_at_their_first_call(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(compiling.index, "warm_up", lambda: loaded.append("index"))
    monkeypatch.setattr(compiling.signature, "warm_up", lambda: loaded.append("signature"))
    compilation = Compilation(("signature", "index"), on_compiling=nothing, on_fast=nothing)
    assert compilation.is_kept
    compilation.begin("index")
    compilation.wait("index")
    assert loaded == []
    assert not compilation.is_fast
    compilation.begin()
    wait_until(lambda: compilation.is_fast, 60)
    assert loaded == ["index", "signature"]
    gate.set()


def test_waiting_for_cached_kernels_does_not_load_them_all(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(compiling.index, "warm_up", lambda: loaded.append(gate.wait(60)))
    compilation = Compilation(("index",), on_compiling=nothing, on_fast=nothing)
    compilation.wait("index")
    assert loaded == []
    assert not compilation.is_fast
    compilation.begin()
    gate.set()
    wait_until(lambda: compilation.is_fast, 60)


def test_rooms_not_waited_for_are_used_once_fully_loaded(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    warming = threading.Event()
    used: list[str] = []
    monkeypatch.setattr(compiling.signature, "warm_up", lambda: (warming.set(), gate.wait(60)))
    monkeypatch.setattr(forms, "use_compiled", lambda _: used.append("signature"))
    compilation = Compilation(("signature",), on_compiling=nothing, on_fast=nothing)
    compilation.begin()
    assert warming.wait(60)
    assert used == []
    gate.set()
    wait_until(lambda: compilation.is_fast, 60)
    assert used == ["signature"]


def test_closing_ends_loading_of_rooms_not_waited_for(gate: threading.Event) -> None:
    compilation = Compilation(("signature", "index"), on_compiling=nothing, on_fast=nothing)
    compilation.wait("index")
    compilation.close()
    compilation.wait("signature")
    assert not compilation.is_fast
    assert not gate.is_set()


def test_closing_ends_all_waiting(gate: threading.Event) -> None:
    compilation = Compilation(("signature",), on_compiling=nothing, on_fast=nothing)
    waiter = threading.Thread(target=compilation.wait, args=("signature",))
    waiter.start()
    compilation.close()
    waiter.join(60)
    assert not waiter.is_alive()
    assert not gate.is_set()
    assert not compilation.is_fast


def test_a_failed_load_is_not_reported_as_fast(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiling.signature, "warm_up", fail)
    compilation = Compilation(("signature",), on_compiling=nothing, on_fast=nothing)
    compilation.begin()
    wait_until(lambda: "could not be compiled" in caplog.text, 60)
    compilation.wait("signature")
    assert not compilation.is_fast
    assert not gate.is_set()


def test_closing_ends_a_child_whose_neighbour_could_not_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start_one(_: object) -> subprocess.Popen[bytes]:
        if started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(subprocess.Popen(["sleep", "600"]))
        return started[0]

    monkeypatch.setattr(compiling, "are_kept", lambda _: False)
    monkeypatch.setattr(compiling, "_child", start_one)
    compilation = Compilation(("index",), on_compiling=nothing, on_fast=nothing)
    try:
        compilation.wait("index")
        assert "could not be compiled" in caplog.text
        compilation.close()
        assert started[0].wait(60) != 0
    finally:
        started[0].kill()
        forms.use_preferred()
