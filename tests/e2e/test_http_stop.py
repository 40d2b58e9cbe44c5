"""Stopping at any time: while the server is loading, while a client dawdles, and at once when asked twice."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from api.roles.parts import PLAIN_CHANGES
from api.roles.process import GRACE_S
from iqdb_core import codec
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.servers import COMMAND, ServerProcess, embedded_server
from tests.fixtures.unhurried import without_delays
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_that_compiles_before_it_loads_many_images_ends_in_order(tmp_path: Path) -> None:
    """With few images it serves meanwhile: see `test_first_start`."""
    database, count = tmp_path / "iqdb.sqlite", PLAIN_CHANGES + 1
    store = open_store(str(database))
    signature = codec.from_hash(pictures.golden()[0][1])
    store.apply([Write(image_id, image_id + 1, signature) for image_id in range(count)])
    store.close()
    server = ServerProcess(
        ["http", "127.0.0.1", "0", str(database)],
        tmp_path / "log",
        {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
    )
    try:
        wait_until(lambda: "preparing for this machine" in server.errors(), 60, what="it compiles")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0, server.errors()
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "", "it never was ready"
    finally:
        server.close()
    assert server.errors().count("iqdb: ") == 1, server.errors()
    assert not database.with_name("iqdb.sqlite-wal").exists()
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM images").fetchone() == (count,)
    connection.close()


def test_a_second_signal_ends_at_once_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    with embedded_server(database) as server:
        assert (
            server.client.post("/images/1", files={"file": pictures.picture(1, (60, 40))}).status_code == 200
        )
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as dawdler:
            dawdler.sendall(b"POST /images/2 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx")
            wait_until(lambda: server.client.get("/live").status_code == 200, 30, what="it answers")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):  # it lets the request in flight finish
                server.process.wait(0.7)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(GRACE_S / 2) == 128 + signal.SIGTERM
    with embedded_server(database) as server:
        assert server.client.get("/images/1").status_code == 200


def test_a_closed_terminal_ends_a_server_in_order(tmp_path: Path) -> None:
    """It sends SIGHUP, and so does its shell: neither cuts what is in flight."""
    with embedded_server(tmp_path / "iqdb.sqlite") as server:
        picture = pictures.picture(1, (60, 40))
        head = "POST /images/2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        head += f"Content-Length: {len(picture)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as dawdler:
            dawdler.settimeout(30)
            dawdler.sendall(head.encode() + picture[:-1])
            wait_until(lambda: server.client.get("/live").status_code == 200, 30, what="it answers")
            for _ in range(2):
                server.process.send_signal(signal.SIGHUP)
                with pytest.raises(subprocess.TimeoutExpired):
                    server.process.wait(0.4)
            dawdler.sendall(picture[-1:])
            assert dawdler.recv(65_536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(GRACE_S / 2) == 0
        assert "Traceback" not in server.errors()


def test_a_server_under_nohup_survives_its_terminal(tmp_path: Path) -> None:
    """As `nohup` starts it: with SIGHUP ignored."""
    program = ("sh", "-c", 'trap \'\' HUP; exec "$0" "$@"', *COMMAND)
    with embedded_server(tmp_path / "iqdb.sqlite", program=program) as server:
        server.process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert server.client.get("/status").status_code == 200
        assert server.process.poll() is None
        assert server.terminate() == 0


def test_a_client_that_waits_for_changes_does_not_delay_the_stop(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite") as server:
        url = server.client.base_url
        with socket.create_connection((url.host, url.port), timeout=60) as waiting:
            waiting.sendall(b"GET /changes?since=0&wait_s=20 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # Answered on another connection that came later, so the one above is being waited on.
            assert server.client.get("/status").status_code == 200
            start = time.monotonic()
            assert server.terminate() == 0
            ended_s = time.monotonic() - start
            answer = waiting.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert ended_s < 15, "it would have waited for 20 s"


SLOW_TO_COMPILE = """
import sys
from llvmlite import binding
from numba.core.codegen import JITCodeLibrary

LINES = 50_000
CODE = "".join(f"%v{i} = mul i64 %v{i - 1}, %v{max(0, i - 7)}\\n" for i in range(1, LINES))
CODE = "define i64 @f(i64 %a) {\\n%v0 = add i64 %a, 1\\n" + CODE + f"ret i64 %v{LINES - 1}\\n}}"


def compile_something_long(*_):
    module = binding.parse_assembly(CODE)
    machine = binding.Target.from_default_triple().create_target_machine(opt=2)
    print("compiling", flush=True)
    binding.create_mcjit_compiler(module, machine).finalize_object()


JITCodeLibrary._object_getbuffer_hook = compile_something_long
from api.roles.cli import main

main(sys.argv[1:])
"""
"""A server whose thread of the compiler does not return to Python for a while."""


def test_a_server_in_the_middle_of_its_compiler_ends_in_order(tmp_path: Path) -> None:
    server = ServerProcess(
        ["http", "127.0.0.1", "0", str(tmp_path / "iqdb.sqlite")],
        tmp_path / "log",
        program=(sys.executable, "-c", SLOW_TO_COMPILE),
    )
    try:
        server.wait_ready()
        assert server.client.post("/query", files={"file": pictures.picture(1)}).status_code == 200
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "compiling\n"
        assert server.terminate() == 0, server.errors()
    finally:
        server.close()
    assert not without_delays(server.errors())
