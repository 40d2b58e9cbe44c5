"""The embedded server as a process: start, stop, kill -9, hostile neighbours."""

from __future__ import annotations

import concurrent.futures
import resource
import shutil
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures import pictures
from tests.fixtures.command_line import run, run_process
from tests.fixtures.servers import COMMAND, ServerProcess, embedded_server
from tests.fixtures.waiting import wait_until

SMALL = [pictures.picture(seed, (64, 48)) for seed in range(40)]


def test_ready_line_names_the_address_and_the_images(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    with embedded_server(database, program=COMMAND) as server:
        assert server.ready_line == f"iqdb: ready on {server.url} with 0 images in {database}\n"
        server.client.post("/images/1", files={"file": SMALL[0]})
        assert server.terminate() == 0
    manifests = list(database.with_name("iqdb.sqlite.index").rglob("*manifest*"))
    assert manifests, "an orderly end leaves a checkpoint"
    with embedded_server(database, program=COMMAND) as server:
        assert "with 1 images" in server.ready_line


def test_sigterm_finishes_what_is_in_flight_and_leaves_a_plain_file(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    with (
        embedded_server(database, program=COMMAND) as server,
        concurrent.futures.ThreadPoolExecutor(8) as threads,
    ):
        adds = [
            threads.submit(server.client.post, f"/images/{number}", files={"file": picture})
            for number, picture in enumerate(SMALL)
        ]
        adds[3].result()
        assert server.terminate() == 0
        acknowledged = set()
        for number, add in enumerate(adds):
            if add.exception() is None:
                assert add.result().status_code in {200, 503}
                acknowledged |= {number} if add.result().status_code == 200 else set()
            else:
                assert isinstance(add.exception(), httpx.TransportError)
    assert acknowledged
    assert not database.with_name("iqdb.sqlite-wal").exists()
    with sqlite3.connect(database) as connection:
        stored = {row[0] for row in connection.execute("SELECT post_id FROM images")}
    connection.close()
    assert acknowledged <= stored


def test_kill_9_during_a_burst_loses_nothing_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    hashes: dict[int, str] = {}
    for round_ in range(2):
        with embedded_server(database) as server:
            enough = threading.Event()

            goal = 60 * (round_ + 1)

            def burst(
                first: int,
                server: ServerProcess = server,
                enough: threading.Event = enough,
                goal: int = goal,
            ) -> None:
                with httpx.Client(base_url=server.url, timeout=60) as client:
                    for number in range(first, first + 10_000):
                        picture = SMALL[number % len(SMALL)]
                        try:
                            answer = client.post(f"/images/{number}", files={"file": picture})
                        except httpx.TransportError:
                            return
                        assert answer.status_code == 200
                        hashes[number] = answer.json()["hash"]
                        if len(hashes) > goal:
                            enough.set()

            writers = [
                threading.Thread(target=burst, args=(round_ * 10**6 + number * 10**5,)) for number in range(4)
            ]
            for writer in writers:
                writer.start()
            assert enough.wait(60)
            server.kill()
            for writer in writers:
                writer.join(60)
    with embedded_server(database) as server:
        for number, text in hashes.items():
            answer = server.client.get(f"/images/{number}")
            assert (answer.status_code, answer.json()["hash"]) == (200, text)
        images = server.client.get("/status").json()["images"]
        matches = server.client.post("/query?limit=1000", files={"file": SMALL[0]}).json()
        assert len(matches) == min(images, 1000)
        # What was in flight is there whole or not at all: at most one image per writer and round.
        assert len(hashes) <= images <= len(hashes) + 8
        for match in matches:
            assert len(match["hash"]) == 533


def test_an_iqdb_file_is_taken_over_and_given_back(tmp_path: Path) -> None:
    database = tmp_path / "old.db"
    shutil.copyfile(pictures.FIXTURES / "data" / "small-40.sqlite", database)
    before = table_of(database)
    with embedded_server(database) as server:
        assert server.client.get("/status").json()["images"] == 40
        some_id = before[1][7][1]
        found = server.client.post("/query", json={"post_id": some_id, "limit": 1}).json()
        assert found[0]["post_id"] == some_id
        assert server.terminate() == 0
    assert table_of(database) == before


def table_of(database: Path) -> tuple[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(database)
    statement = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'images'").fetchone()[0]
    rows = connection.execute("SELECT * FROM images ORDER BY id").fetchall()
    connection.close()
    return statement, rows


def test_startup_errors_are_one_sentence(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.sqlite"
    rubbish.write_bytes(b"this is no database" * 1000)
    for target in (rubbish, tmp_path / "missing" / "iqdb.sqlite", tmp_path):
        ended = run_process("http", "127.0.0.1", "0", str(target))
        assert ended.returncode == 1, ended.stderr
        assert ended.stderr.startswith("iqdb: ")
        assert "Traceback" not in ended.stderr
    assert rubbish.read_bytes() == b"this is no database" * 1000


@pytest.mark.parametrize(("role", "place"), [("http", "file/index"), ("query", "file/{n}")])
def test_an_impossible_index_directory_is_named(tmp_path: Path, role: str, place: str) -> None:
    (tmp_path / "file").touch()
    database = str(tmp_path / "iqdb.sqlite")
    assert run("upgrade", f"--database-url={database}").returncode == 0
    named = [database] if role == "http" else [f"--database-url={database}"]
    ended = run_process(role, "127.0.0.1", "0", *named, f"--index-dir={tmp_path / place}")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert str(tmp_path / place).replace("{n}", "0") in ended.stderr


def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run_process("http", "127.0.0.1", str(taken.getsockname()[1]), str(tmp_path / "a.sqlite"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "cannot listen" in ended.stderr
    assert "[Errno" not in ended.stderr


def test_two_servers_cannot_share_a_file(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    with embedded_server(database) as server:
        ended = run_process("http", "127.0.0.1", "0", str(database))
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert server.client.get("/status").status_code == 200


def test_wrong_usage_exits_2() -> None:
    for arguments in ([], ["nonsense"], ["http", "127.0.0.1", "port"], ["http", "--nonsense"]):
        ended = run(*arguments)
        assert (ended.returncode, "Usage:" in ended.stdout + ended.stderr) == (2, True)
    ended = run("http", "--max-pixels", "x")
    sentence = "iqdb: --max-pixels must be a whole number above 0, not 'x'\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)
    assert run_process("--version").returncode == 0
    assert "DBFILE" in run("http", "--help").stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("link", "http://[{id}"),
        ("thumbnail", "example.org/{id}"),
        ("token", "s3\udcffcret"),
        ("token_file", "missing"),
        ("tokens", "write-s3cret"),
        ("pictures", "~nobody-of-this-name"),
        ("fetch_hosts", "https://example.org"),
        ("fetch_referer_rules", "abc"),
        ("poll_s", "1e308"),
    ],
)
def test_a_setting_that_cannot_work_exits_2_wherever_it_stands(
    tmp_path: Path, option: str, value: str
) -> None:
    server = ("http", "127.0.0.1", "0", str(tmp_path / "a.sqlite"))
    for ended in (
        run_process(*server, f"--{option.replace('_', '-')}", value),
        run_process(*server, environment={f"IQDB_{option.upper()}": value}),
    ):
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
        assert ended.stderr.startswith("iqdb: ")
        assert "s3" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("http", "x" * 500, "0"),
        ("http", "127.0.0.1", "0", "--private"),
        ("http", "127.0.0.1", "0", "mysql://db/iqdb"),
        ("upgrade", "--database-url", "x" * 5000),
        ("api", "127.0.0.1", "0", "--query-urls", ","),
        ("api", "127.0.0.1", "0", "--query-urls", "http://["),
        ("api", "127.0.0.1", "0", "--query-urls", "dns+http://a..b:1"),
        ("api", "127.0.0.1", "0", "--redis-url", "redis://127.0.0.1?nonsense=1"),
        ("query", "127.0.0.1", "0", "--redis-prefix", "two words"),
        ("worker", "--redis-url", "nonsense"),
        ("status", "--url", "nonsense"),
        ("add", ".", "--id-from", "("),
        ("compare", "1", "2"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_unsupported_settings_exit_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = run_process(*arguments, folder=tmp_path)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("iqdb: ")


def test_limits_are_options(tmp_path: Path) -> None:
    options = ("--max-upload-bytes", "5000", "--max-pixels", "3000", "--token", "s3cret")
    with embedded_server(tmp_path / "iqdb.sqlite", *options) as server:
        client, allowed = server.client, {"Authorization": "Bearer s3cret"}
        wrong = {"Authorization": "Bearer wröng".encode()}
        for headers in ({}, wrong, {"Authorization": "Basic s3cret"}):
            answer = client.post("/images/1", data={"hash": "x"}, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert client.delete("/images/1", headers=headers).status_code == 401
        big, wide = pictures.picture(1, (300, 300)), pictures.flat((1, 2, 3), (61, 50))
        assert len(big) > 5000 > len(wide)
        assert client.post("/images/1", files={"file": big}, headers=allowed).status_code == 413
        assert client.post("/images/1", files={"file": wide}, headers=allowed).status_code == 413
        small = pictures.flat((1, 2, 3), (60, 50))
        assert client.post("/images/1", files={"file": small}, headers=allowed).status_code == 200
        assert client.post("/query", files={"file": small}).status_code == 200


@pytest.mark.parametrize("is_form", [True, False])
def test_an_upload_on_a_full_disk_is_answered_503(tmp_path: Path, is_form: bool) -> None:
    """A full disk for temporary files; a limit for the size of files stands for it."""
    picture = pictures.flat((1, 2, 3), (60, 50))
    large = picture + bytes(3_000_000)
    sent: dict[str, Any] = (
        {"files": {"file": large}}
        if is_form
        else {"content": large, "headers": {"Content-Type": "image/png"}}
    )
    with embedded_server(tmp_path / "iqdb.sqlite") as server:
        assert server.client.post("/query", files={"file": picture}).status_code == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
        answer = server.client.post("/query", **sent)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert server.client.post("/query", files={"file": picture}).status_code == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert server.client.post("/query", **sent).status_code == 200
        assert "Traceback" not in server.errors()


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite", "--max-upload-bytes", "100000") as server:

        def endless() -> object:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            for _ in range(100_000):
                yield b"x" * 10_000

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        try:
            answer = server.client.post("/query", content=endless(), headers=headers)  # type: ignore[arg-type]
        except httpx.WriteError:
            pass  # the server may close before the client has stopped sending
        else:
            assert answer.status_code == 413
        assert server.client.get("/status").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\xfe" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\n" + b"X-A: " + b"b" * 200_000 + b"\r\n\r\n",
    ],
)
def test_garbage_on_the_socket_does_not_disturb_the_server(raw: bytes, hardened: ServerProcess) -> None:
    port = int(hardened.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except (ConnectionError, BrokenPipeError):
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5")
    assert hardened.client.get("/status").status_code == 200


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> object:
    with embedded_server(tmp_path_factory.mktemp("raw") / "iqdb.sqlite") as server:
        yield server


def test_a_stalled_upload_is_dropped_and_delays_nobody(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite", "--body-timeout-s", "0.5") as server:
        port = int(server.url.rsplit(":", 1)[1])
        head = (
            b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head)
            assert server.client.post("/query", files={"file": SMALL[0]}).status_code == 200
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_queries_answer_while_images_are_hashed(tmp_path: Path) -> None:
    """Decoding takes all decoders for a while; a query by hash still answers meanwhile."""
    large = pictures.flat((10, 200, 30), (6000, 5000))
    with embedded_server(tmp_path / "iqdb.sqlite") as server:
        known = server.client.post("/images/1", files={"file": SMALL[1]}).json()["hash"]

        def answered_meanwhile() -> int:
            done = threading.Event()

            def keep_busy(number: int) -> None:
                with httpx.Client(base_url=server.url, timeout=60) as client:
                    assert client.post(f"/images/{number}", files={"file": large}).status_code == 200
                done.set()

            threads = [threading.Thread(target=keep_busy, args=(number,)) for number in range(10, 14)]
            for thread in threads:
                thread.start()
            answered = 0
            while not done.is_set():
                assert server.client.post("/query", params={"hash": known}).json()[0]["post_id"] == 1
                answered += 1
            for thread in threads:
                thread.join(60)
            return answered

        # The first may have waited for a decoder, the second did not. Who asks may be held up by other load.
        assert any(answered_meanwhile() >= 2 for _ in range(5))
        wait_until(lambda: server.client.get("/status").json()["images"] == 5, 30)
