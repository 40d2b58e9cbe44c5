"""A peer that takes what is sent and says nothing: every call to the queue ends all the same."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from api.roles.hints import HintListener
from api.roles.queue_parts import create_sender
from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs import JobLedger, RedisPort, Submission, WorkLedger, connection, messages
from iqdb_core.settings import Settings
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until
from tests.fixtures.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.waits
DEADLINE_S = 60


class SilentPeer:
    """Accepts connections, reads, and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return  # closed

    def close(self) -> None:
        self._listener.close()
        for one in self.connections:
            one.close()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentPeer]:
    for module in (connection, messages):
        monkeypatch.setattr(module, "SOCKET_TIMEOUT_S", 0.2)
    peer = SilentPeer()
    yield peer
    peer.close()


def ends(call: Callable[[], object]) -> BaseException | None:
    """Return what a call raised; it must come to an end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - returned
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it hangs"
    return raised[0] if raised else None


def test_the_ledger_does_not_wait_for_ever(peer: SilentPeer) -> None:
    port = RedisPort.connect(peer.url)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    for call in (
        ledger.depth,
        lambda: ledger.accept([Submission.of_image(1, b"x" * 1_000_000)]),
        WorkLedger(port).claim,
    ):
        assert isinstance(ends(call), QueueUnavailable)
    port.close()


def test_the_sender_of_messages_does_not_wait_for_ever(peer: SilentPeer) -> None:
    """It runs in the one thread through which all writes of a front end go."""
    send = create_sender(Settings.read(redis_url=peer.url))
    assert ends(lambda: send(1)) is not None
    assert peer.connections


@pytest.mark.parametrize("has_heartbeat", ["true", "false"])
def test_a_worker_ends_in_time_though_redis_hangs(tmp_path: Path, has_heartbeat: str) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    worker = WorkerProcess(
        tmp_path / "log",
        {
            "IQDB_REDIS_URL": server.url,
            "IQDB_DATABASE_URL": f"{tmp_path}/images.sqlite",
            "IQDB_REMOTE_CONTROL": has_heartbeat,
            "IQDB_TASK_TIME_LIMIT_S": "2",
            "IQDB_WORKER_PROCESSES": "1",
        },
        module="tests.fixtures.poisoned_worker",  # whose time limit may be short
    ).start()
    try:
        worker.wait_ready()
        children = worker.children()
        assert children
        os.kill(server.pid, signal.SIGSTOP)
        assert worker.terminate() == 1
        assert "still running 7 seconds after it was told to end" in worker.text()
        wait_until(
            lambda: not any(map(psutil.pid_exists, children)), DEADLINE_S, what="its children end, too"
        )
    finally:
        worker.kill()
        server.kill()


def test_the_subscription_is_made_anew(peer: SilentPeer) -> None:
    hints = HintListener(RedisPort.connect(peer.url), "channel", print, silent_s=0.3)
    wait_until(lambda: len(peer.connections) >= 2, DEADLINE_S)
    assert ends(hints.close) is None


def test_hints_begin_once_redis_lets_us_in(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    heard: list[bytes] = []
    began: list[bool] = []
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        hints = HintListener(
            RedisPort.connect(server.url), "channel", heard.append, on_connect=lambda: began.append(True)
        )
        try:
            wait_until(lambda: hints.breaks >= 1, DEADLINE_S, what="it is refused")
            client.execute_command("ACL", "SETUSER", "default", "allchannels")
            wait_until(lambda: began, DEADLINE_S)
            wait_until(lambda: client.publish("channel", b"heard") and heard, DEADLINE_S)
        finally:
            hints.close()
            server.kill()


def test_a_subscription_that_fell_silent_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SOCKET_TIMEOUT_S", 0.5)
    server = RedisServer(tmp_path)
    server.start()
    began: list[bool] = []
    heard: list[bytes] = []
    hints = HintListener(
        RedisPort.connect(server.url),
        "channel",
        heard.append,
        on_connect=lambda: began.append(True),
        silent_s=1.5,
    )
    try:
        wait_until(lambda: began, DEADLINE_S)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: hints.breaks >= 1, DEADLINE_S, what="the silence is noticed")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: len(began) >= 2, DEADLINE_S)
        with server.client() as client:
            # A subscription that is not served for so long counts as silent, too, and misses what is said.
            wait_until(lambda: client.publish("channel", b"again") and heard, DEADLINE_S)
        assert set(heard) == {b"again"}
    finally:
        hints.close()
        server.kill()
