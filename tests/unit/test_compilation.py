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


@pytest.fixture
def loaded(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rooms whose kernels are all loaded, in this order."""
    rooms: list[str] = []
    monkeypatch.setattr(compiling.index, "warm_up", lambda: rooms.append("index"))
    monkeypatch.setattr(compiling.signature, "warm_up", lambda: gate.wait(60) and rooms.append("signature"))
    return rooms


def nothing(*_: object) -> None:
    pass


def test_kernels_left_for_later_are_loaded_at_their_first_call(
    gate: threading.Event, loaded: list[str]
) -> None:
    compilation = Compilation(("signature", "index"), on_compiling=nothing, on_fast=nothing)
    assert compilation.is_kept
    compilation.begin("index")
    compilation.wait("index")
    assert loaded == []
    compilation.begin()
    gate.set()
    compilation.wait("signature")
    wait_until(lambda: loaded == ["index", "signature"], 60)


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
    wait_until(lambda: used == ["signature"], 60)


def test_closing_ends_loading_of_rooms_not_waited_for(loaded: list[str]) -> None:
    compilation = Compilation(("signature", "index"), on_compiling=nothing, on_fast=nothing)
    compilation.wait("index")
    compilation.close()
    compilation.wait("signature")
    assert loaded == []


@pytest.mark.usefixtures("gate")
def test_closing_ends_all_waiting() -> None:
    compilation = Compilation(("signature",), on_compiling=nothing, on_fast=nothing)
    waiter = threading.Thread(target=compilation.wait, args=("signature",))
    waiter.start()
    compilation.close()
    waiter.join(60)
    assert not waiter.is_alive()


def test_a_failed_load_is_not_reported_as_fast(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiling, "are_kept", lambda _: False)
    monkeypatch.setattr(compiling.cache_folder, "can_keep", lambda: False)  # compile in this process
    monkeypatch.setattr(compiling.signature, "warm_up", fail)
    reports: list[float] = []
    compilation = Compilation(("signature",), on_compiling=nothing, on_fast=reports.append)
    try:
        compilation.wait("signature")
        assert "could not be compiled" in caplog.text
        assert reports == []
    finally:
        forms.use_preferred()


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
