"""`iqdb add` beside others who add to the same images: none of theirs is lost, and all of ours is there."""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, ClassVar

import httpx
import pytest

from api.roles.command_parts.add import MOST_TIMES, OUTRUN, Tally, add_all
from api.roles.command_parts.gather import Passed, gather
from api.roles.command_parts.local import DatabaseTarget
from api.roles.command_parts.notebook import Notebook, notebook_path
from api.roles.command_parts.remote import ServerTarget
from iqdb_core.errors import StoreUnavailable
from iqdb_core.model import Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store
from tests.fixtures import pictures, programs, stores
from tests.fixtures.command_line import Running, run
from tests.fixtures.http_peer import handled_by
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from api.roles.command_parts.target import Added, Entry, Target
    from iqdb_core.model import Signature

MAX_PIXELS = 10**8


def folder_of(place: Path, first: int, count: int) -> Path:
    """Return a new folder with small pictures, each of its own."""
    place.mkdir()
    for number in range(first, first + count):
        (place / f"{number}.jpg").write_bytes(pictures.picture(number))
    return place


def shown(*folders: Path) -> dict[str | None, Signature]:
    """Return what the pictures of folders show, by the sources of their images."""
    files = [path for folder in folders for path in folder.glob("*.jpg")]
    return {str(path): from_image_bytes(path.read_bytes()) for path in files}


def stored(database: Path) -> dict[int, tuple[str | None, Signature]]:
    """Return the sources and signatures of all images, by id."""
    store = open_store(str(database))
    images = {one.image_id: (one.source, one.signature) for one in store.export()}
    store.close()
    return images


def add(folder: Path, *arguments: object, state: str = "state", code: int = 0) -> tuple[int, int]:
    """Run the command, and return how many were added and how many were there."""
    variables = {"XDG_STATE_HOME": str(folder / state)}
    ended = run("add", *arguments, "--json", folder=folder, environment=variables)
    assert ended.returncode == code, ended.stderr
    told = json.loads(ended.stdout)
    return told["added"], told["unchanged"]


def post(client: httpx.Client, image_id: int, number: int, source: str | None = "board") -> None:
    """Add an image as a board does, which chooses its own ids."""
    files = {"file": pictures.picture(number)}
    answer = client.post(f"/images/{image_id}", files=files, params={"source": source} if source else {})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("places", [("url", "url"), ("file", "url"), ("file", "link")])
def test_two_at_once_lose_nothing(tmp_path: Path, places: tuple[str, str]) -> None:
    database = tmp_path / "iqdb.sqlite"
    (tmp_path / "link.sqlite").symlink_to("iqdb.sqlite")
    folders = [folder_of(tmp_path / name, first, 40) for name, first in (("one", 100), ("two", 200))]
    expected = shown(*folders)
    with embedded_server(database) as server, ExitStack() as adders:
        names = {
            "url": ("--url", server.client.base_url),
            "file": ("--db", database),
            "link": ("--db", tmp_path / "link.sqlite"),
        }
        started = [
            adders.enter_context(
                Running(
                    *("add", folder, *names[place]),
                    folder=tmp_path,
                    environment={"XDG_STATE_HOME": str(folder / ".state")},
                )
            )
            for folder, place in zip(folders, places, strict=True)
        ]
        for adder in started:
            # By two names of one file they have one notebook, and one of them may give up waiting for it.
            assert adder.wait_end() == 0 or "another 'iqdb add'" in adder.errors()
        for _ in range(2):
            counts = [
                add(tmp_path, folder, *names[place], state=f"{folder.name}/.state")
                for folder, place in zip(folders, places, strict=True)
            ]
        assert counts == [(0, 40), (0, 40)]
    images = stored(database)
    assert (len(images), dict(images.values())) == (80, expected)


@contextmanager
def opened(where: str, database: Path, server: ServerProcess) -> Iterator[Target]:
    """Open the database, or its server."""
    target: Target
    if where == "file":
        target = DatabaseTarget(str(database), max_pixels=MAX_PIXELS, progress=lambda *_: None)
    else:
        target = ServerTarget(server.url, token=None, hash_here=False, max_pixels=MAX_PIXELS)
    with target:
        yield target


def add_with(target: Target, folder: Path, notebook: Notebook, between: Callable[[], None]) -> Tally:
    """Add a folder, and do something else when the first chunk is under way."""
    never, calls = threading.Event(), iter([between])
    items = gather([str(folder)], id_pattern=None, max_bytes=10**8, passed=Passed(), stopping=never)
    tally = Tally()
    add_all(
        items,
        target,
        notebook,
        tally,
        threads=1,
        progress=lambda _: next(calls, lambda: None)(),
        stopping=never,
    )
    return tally


@pytest.mark.parametrize("where", ["file", "url"])
def test_ids_that_others_take_meanwhile_stay_theirs(tmp_path: Path, where: str) -> None:
    """Among them one that another machine gave to another picture of the same path."""
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 60)
    files = sorted(folder.iterdir(), key=str)
    with embedded_server(database) as server:

        def board() -> None:
            for image_id in range(17, 40):
                source = str(files[image_id - 1]) if image_id % 2 else None
                post(server.client, image_id, image_id, source)

        with (
            opened(where, database, server) as target,
            Notebook(tmp_path / "notebook") as notebook,
        ):
            tally = add_with(target, folder, notebook, board)
            again = add_with(target, folder, notebook, lambda: None)
    assert (tally.added, tally.unchanged, tally.refused) == (60, 0, [])
    assert (again.added, again.unchanged) == (0, 60)
    images = stored(database)
    for image_id in range(17, 40):
        assert images.pop(image_id)[1] == from_image_bytes(pictures.picture(image_id))
    assert (len(images), dict(images.values())) == (60, shown(folder))
    assert max(images) == 83, "the next free ones were asked for"


@pytest.mark.parametrize("where", ["file", "url"])
def test_an_id_that_was_not_used_is_no_claim(tmp_path: Path, where: str) -> None:
    """A file was no picture yet, and its id went to somebody else before it was one."""
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 3)
    last = folder / "102.jpg"
    whole = last.read_bytes()
    last.write_bytes(whole[:100])
    with embedded_server(database) as server:
        at = ("--url", server.client.base_url) if where == "url" else ("--db", database)
        assert add(tmp_path, folder, *at, code=3) == (2, 0)
        post(server.client, 3, 7)
        last.write_bytes(whole)
        assert add(tmp_path, folder, *at) == (1, 2)
        assert add(tmp_path, folder, *at) == (0, 3)
    images = stored(database)
    assert images.pop(3) == ("board", from_image_bytes(pictures.picture(7)))
    assert dict(images.values()) == shown(folder)


@pytest.mark.parametrize("is_before", [True, False], ids=["before it is added", "before it is noted"])
def test_one_that_is_killed_takes_nothing_and_adds_nothing_twice(tmp_path: Path, is_before: bool) -> None:
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 3)
    program = f"""
        import os
        from api.roles.cli import main
        from api.roles.command_parts.local import DatabaseTarget
        add = DatabaseTarget.add
        DatabaseTarget.add = lambda *words: (None if {is_before} else add(*words), os._exit(9))
        main(["add", "ours"])
    """
    assert programs.run(program, folder=tmp_path).returncode == 9
    if is_before:
        with embedded_server(database) as server:
            for image_id in (1, 3):
                post(server.client, image_id, image_id)
    assert add(tmp_path, folder) == ((3, 0) if is_before else (0, 3))
    assert add(tmp_path, folder) == (0, 3)
    images = stored(database)
    if is_before:
        for image_id in (1, 3):
            assert images.pop(image_id) == ("board", from_image_bytes(pictures.picture(image_id)))
    assert (len(images), dict(images.values())) == (3, shown(folder))


@pytest.mark.parametrize("is_touched", [False, True], ids=["unchanged", "changed"])
def test_another_store_at_the_same_address(tmp_path: Path, is_touched: bool) -> None:
    ours, theirs = folder_of(tmp_path / "ours", 100, 3), folder_of(tmp_path / "theirs", 200, 3)
    with embedded_server(tmp_path / "first.sqlite") as server:
        assert add(tmp_path, ours, "--url", server.client.base_url) == (3, 0)
    assert add(tmp_path, theirs, "--db", "second.sqlite") == (3, 0)
    port = str(server.client.base_url.port)
    again = ServerProcess(["http", "127.0.0.1", port, str(tmp_path / "second.sqlite")], server.log)
    with closing(again):
        again.wait_ready()
        touch(ours, is_touched)
        assert add(tmp_path, ours, "--url", server.client.base_url) == (3, 0)
        assert add(tmp_path, ours, "--url", server.client.base_url) == (0, 3)
    images = stored(tmp_path / "second.sqlite")
    assert (len(images), dict(images.values())) == (6, shown(ours, theirs))


def touch(folder: Path, is_touched: bool) -> None:
    """Make files look changed."""
    for path in folder.glob("*.jpg") if is_touched else ():
        os.utime(path, (1, 1))


@pytest.mark.parametrize("is_touched", [False, True], ids=["unchanged", "changed"])
def test_another_store_in_the_place_of_the_file(tmp_path: Path, is_touched: bool) -> None:
    ours, theirs = folder_of(tmp_path / "ours", 100, 3), folder_of(tmp_path / "theirs", 200, 3)
    assert add(tmp_path, ours) == (3, 0)
    assert add(tmp_path, theirs, "--db", "second.sqlite") == (3, 0)
    (tmp_path / "second.sqlite").replace(tmp_path / "iqdb.sqlite")
    touch(ours, is_touched)
    assert add(tmp_path, ours) == (3, 0)
    assert add(tmp_path, ours) == (0, 3)
    images = stored(tmp_path / "iqdb.sqlite")
    assert (len(images), dict(images.values())) == (6, shown(ours, theirs))


@pytest.mark.parametrize("source", ["board", None])
@pytest.mark.parametrize("is_touched", [False, True], ids=["unchanged", "changed"])
def test_an_id_that_went_to_another_picture_is_left(
    tmp_path: Path, is_touched: bool, source: str | None
) -> None:
    """As after `iqdb rm`, or where a backup was put back and others went on from there."""
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 3)
    assert add(tmp_path, folder) == (3, 0)
    with embedded_server(database) as server:
        for image_id in (2, 3):
            assert server.client.delete(f"/images/{image_id}").status_code == 200
        post(server.client, 3, 7, source)
    touch(folder, is_touched)
    assert add(tmp_path, folder) == ((3, 0) if is_touched else (2, 1))
    assert add(tmp_path, folder) == (0, 3)
    images = stored(database)
    assert images.pop(3) == (source, from_image_bytes(pictures.picture(7)))
    assert set(images) == {1, 2, 4}
    assert dict(images.values()) == shown(folder)


def test_a_picture_whose_source_is_told_better_is_still_there(tmp_path: Path) -> None:
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 3)
    assert add(tmp_path, folder) == (3, 0)
    store = open_store(str(database))
    newest = store.max_revision()
    for image_id, source in ((1, "https://example.org/1"), (2, "")):
        store.apply([Write(image_id, newest + 1, store.get(image_id), source)])
    store.close()
    assert add(tmp_path, folder) == (0, 3)


class LosesAnswers(BaseHTTPRequestHandler):
    """Passes everything on to a server, and loses its first answer to an add."""

    behind = ""
    lost: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = {name: value for name, value in self.headers.items() if name.lower() == "content-type"}
        answer = httpx.request(self.command, self.behind + self.path, content=body, headers=kind, timeout=60)
        if self.command == "POST" and self.path.startswith("/images?") and not self.lost:
            self.lost.append(self.path)
            return  # the connection ends
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Content-Length"):
            self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET  # noqa: N815 - named by the library

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_answer_that_is_lost_makes_no_second_image(tmp_path: Path) -> None:
    database, folder = tmp_path / "iqdb.sqlite", folder_of(tmp_path / "ours", 100, 3)
    with embedded_server(database) as server, handled_by(LosesAnswers) as port:
        LosesAnswers.behind = server.url
        added, unchanged = add(tmp_path, folder, "--url", f"http://127.0.0.1:{port}")
    assert (len(LosesAnswers.lost), added + unchanged) == (1, 3)
    images = stored(database)
    assert (len(images), dict(images.values())) == (3, shown(folder))


def test_a_file_has_one_notebook_by_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "link.sqlite").symlink_to("folder/iqdb.sqlite")
    names = ["folder/iqdb.sqlite", "link/iqdb.sqlite", "link.sqlite"]
    paths = {notebook_path(f"{form}{tmp_path}/{name}", "") for name in names for form in ("", "sqlite:///")}
    assert paths == {tmp_path / "folder" / "iqdb.sqlite.files"}


class Rival(DatabaseTarget):
    """A database in which somebody else is always quicker."""

    def add(self, entries: Sequence[Entry]) -> list[Added]:
        self.store.apply([stores.put(entry.image_id, 1) for entry in entries])
        return super().add(entries)


class Away(DatabaseTarget):
    """A database that is away, which takes a while to be noticed."""

    tries = 0

    def add(self, entries: Sequence[Entry]) -> list[Added]:  # noqa: ARG002
        self.tries += 1
        raise StoreUnavailable("it is away")


def test_after_a_failure_nothing_else_is_begun(tmp_path: Path) -> None:
    """A server that is away would be waited for, a minute long, with each chunk that waits for a thread."""
    folder = folder_of(tmp_path / "ours", 100, 40)
    with (
        Away(str(tmp_path / "iqdb.sqlite"), max_pixels=MAX_PIXELS, progress=lambda *_: None) as target,
        Notebook(tmp_path / "notebook") as notebook,
    ):
        with pytest.raises(StoreUnavailable):
            add_with(target, folder, notebook, lambda: None)
        assert target.tries == 1


def test_who_is_never_quick_enough_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "ours", 100, 2)
    with (
        Rival(str(tmp_path / "iqdb.sqlite"), max_pixels=MAX_PIXELS, progress=lambda *_: None) as target,
        Notebook(tmp_path / "notebook") as notebook,
    ):
        tally = add_with(target, folder, notebook, lambda: None)
    assert (tally.added, len(tally.refused)) == (0, 2)
    assert {reason for _, reason in tally.refused} == {OUTRUN}
    images = stored(tmp_path / "iqdb.sqlite")
    assert {signature for _, signature in images.values()} == {stores.signature(1)}
    assert len(images) == 2 * (1 + MOST_TIMES)


def test_what_is_there_is_told_alike(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    ids = [0, 1, 5, 999, 1000, 1001, 70_000, 2**63 - 1]
    expected = {image_id: None if image_id % 2 else f"source {image_id}" for image_id in ids}
    store = open_store(str(database))
    store.apply([replace(stores.put(one, 1), source=source) for one, source in expected.items()])
    store.close()
    with embedded_server(database) as server:
        for where in ("file", "url"):
            with opened(where, database, server) as target:
                assert target.there([*ids, 2, 998, 69_999, 70_001, 2**63 - 2]) == expected
                assert target.there([2, 3]) == {}
                assert target.there([2**63 - 1, 0]) == {0: "source 0", 2**63 - 1: None}
                assert list(target.listed(1000)) == list(expected.items())[5:]


@pytest.mark.parametrize("place", ["file", "url"])
def test_ids_of_a_list_are_left_to_it(tmp_path: Path, place: str) -> None:
    pictured = folder_of(tmp_path / "pictures", 100, 3)
    others = folder_of(tmp_path / "others", 200, 3)
    (tmp_path / "bad.jpg").write_bytes(b"this is no picture")
    lines = [f"{number},others/{199 + number}.jpg\n" for number in (1, 2, 3)]
    (tmp_path / "list.csv").write_text("".join(["id,file\n", *lines, "4,bad.jpg\n"]))
    database = tmp_path / "iqdb.sqlite"
    with ExitStack() as stack:
        there: tuple[object, ...] = ("--db", database)
        if place == "url":
            there = ("--url", stack.enter_context(embedded_server(database)).url)
        assert add(tmp_path, pictured, tmp_path / "list.csv", *there, code=3) == (6, 0)
        assert add(tmp_path, pictured, tmp_path / "list.csv", *there, code=3) == (0, 6)
        # A picture that has got an id by itself goes on to another one.
        (tmp_path / "late.csv").write_text("id,file\n5,others/200.jpg\n")
        assert add(tmp_path, pictured, tmp_path / "late.csv", *there) == (2, 2)
        # A list that is named after many pictures is read before them.
        many = folder_of(tmp_path / "many", 300, 20)
        (tmp_path / "late.csv").write_text("id,file\n9,others/201.jpg\n")
        assert add(tmp_path, many, tmp_path / "late.csv", *there) == (21, 0)
        # One that was added before, in the same run, keeps its id.
        more = folder_of(tmp_path / "more", 400, 20)
        (tmp_path / "late.csv").write_text("id,file\n31,others/202.jpg\n")
        assert add(tmp_path, more, tmp_path / "lat*", *there, code=3) == (20, 0)
    found = stored(database)
    assert {source for source, _ in found.values()} >= set(shown(pictured, many, more))
    listed = {1: 200, 2: 201, 3: 202, 5: 200, 9: 201}
    assert [found[number][1] for number in listed] == [
        from_image_bytes((others / f"{name}.jpg").read_bytes()) for name in listed.values()
    ]
    assert len(found) == 7 + 21 + 20


@pytest.mark.parametrize("place", ["file", "url"])
def test_a_file_that_was_only_touched_is_no_new_one_though_its_image_has_a_better_source(
    tmp_path: Path, place: str
) -> None:
    pictured = folder_of(tmp_path / "pictures", 100, 2)
    database = tmp_path / "iqdb.sqlite"
    with ExitStack() as stack:
        server = stack.enter_context(embedded_server(database))
        there = ("--db", database) if place == "file" else ("--url", server.url)
        assert add(tmp_path, pictured, *there) == (2, 0)
        post(server.client, 1, 100, "https://example.org/1")
        os.utime(pictured / "100.jpg", (1, 1))
        assert add(tmp_path, pictured, *there) == (0, 2)
        assert add(tmp_path, pictured, *there) == (0, 2)
    assert {image_id: source for image_id, (source, _) in stored(database).items()} == {
        1: "https://example.org/1",
        2: str(pictured / "101.jpg"),
    }
