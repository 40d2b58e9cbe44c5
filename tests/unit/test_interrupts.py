"""Signals end what a command waits for in time, also where Python cannot interrupt it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import psutil
import pytest

from api.roles.interrupts import INTERRUPTED
from tests.fixtures import programs
from tests.fixtures.forked_roles import ROOT
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60
WAITING = """
import sqlite3, sys, threading
from api.roles import interrupts

holder, waiting = (sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None) for _ in range(2))
holder.execute("BEGIN EXCLUSIVE")

def say():
    print("interrupted", file=sys.stderr, flush=True)

handling = {
    "raise": lambda: interrupts.interrupted_by_signals(say),
    "stop": lambda: interrupts.stopped_by_signals(threading.Event(), say),
}[sys.argv[2]]
# Called inside of SQLite, to which an exception there means nothing.
waiting.set_trace_callback(lambda _: print("waiting", flush=True))
with handling():
    waiting.execute("BEGIN EXCLUSIVE")
"""


@pytest.mark.parametrize(
    ("signalled", "way"), [(signal.SIGINT, "raise"), (signal.SIGTERM, "raise"), (signal.SIGHUP, "stop")]
)
def test_what_waits_for_a_locked_file_ends_at_the_first_signal(
    tmp_path: Path, signalled: signal.Signals, way: str
) -> None:
    with tempfile.TemporaryFile("w+") as errors:
        process = programs.start(WAITING, tmp_path / "a.sqlite", way, stderr=errors.fileno())
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            program = psutil.Process(process.pid)
            # Then it is no longer in what SQLite calls, which would swallow an error.
            wait_until(lambda: program.status() == psutil.STATUS_SLEEPING, PATIENCE_S, what="SQLite waits")
            process.send_signal(signalled)
            assert process.wait(PATIENCE_S) == INTERRUPTED
        finally:
            programs.end(process)
        errors.seek(0)
        assert errors.read() == "interrupted\n"


TIDYING = """
import sys, threading
from pathlib import Path
from api.roles import interrupts

part = Path(sys.argv[1])
with interrupts.interrupted_by_signals():
    try:
        part.touch()
        print("waiting", flush=True)
        threading.Event().wait(600)
    finally:
        threading.Event().wait(1.5 * interrupts.GRACE_S)  # as on a busy machine
        part.unlink()
"""


def test_what_was_interrupted_has_time_to_remove_its_files(tmp_path: Path) -> None:
    process = programs.start(TIDYING, tmp_path / "part")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    finally:
        programs.end(process)
    assert not (tmp_path / "part").exists()


CALLING = """
import os, signal, sys
from api.roles import interrupts

try:
    with interrupts.interrupted_by_signals(lambda: print("interrupted", flush=True)):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("a function returned a result with an exception set") from error
except KeyboardInterrupt:
    print("ended", flush=True)
"""


def test_an_interruption_of_a_call_of_compiled_code_is_one() -> None:
    process = programs.start(CALLING)
    try:
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "interrupted\nended\n"
    finally:
        programs.end(process)


DROPPING = """
import os, signal
from api.roles import interrupts

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(9):
            pass

with interrupts.interrupted_by_signals(lambda: print("interrupted", flush=True)):
    Dropping()
    print("went on", flush=True)
"""


def test_an_interruption_that_python_drops_ends_the_command() -> None:
    process = programs.start(DROPPING)
    try:
        assert process.wait(PATIENCE_S) == INTERRUPTED
        assert process.stdout is not None
        assert process.stdout.read() == "interrupted\n"
    finally:
        programs.end(process)


@pytest.mark.parametrize(("program", "imported"), [("api", "typer"), ("worker", "celery")])
def test_ctrl_c_while_a_program_is_imported_shows_no_traceback(
    tmp_path: Path, program: str, imported: str
) -> None:
    (tmp_path / f"{imported}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        [sys.executable, "-m", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
