"""The typed client against a real server process, from its first second on."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from iqdb_client import AsyncClient, Client, Image, NotFound, Refused, Unauthorized, Unavailable
from iqdb_core.model import MAX_IMAGE_ID
from tests.fixtures import pictures
from tests.fixtures.command_line import run
from tests.fixtures.ports import free_port
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "töken-€"
FILES = [path for path, _ in pictures.golden()[:3]]
HASHES = [known for _, known in pictures.golden()[:3]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("client")
    with embedded_server(folder / "iqdb.sqlite", environment={"IQDB_TOKEN": TOKEN}) as server:
        yield str(server.client.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, token=TOKEN, patience_s=120) as made:
        yield made
        made.delete(*range(10))


def test_a_server_that_is_starting_is_waited_for(tmp_path: Path) -> None:
    with ExitStack() as stack, socket.socket() as held:
        # Until the server listens, nobody else gets the port; both may hold it at once.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        server = ServerProcess(
            ["http", "127.0.0.1", str(port), str(tmp_path / "iqdb.sqlite")], tmp_path / "log"
        )
        stack.callback(server.close)
        client = stack.enter_context(Client(f"http://127.0.0.1:{port}", patience_s=120))
        assert client.status().images == 0


def test_add_get_query_delete(client: Client) -> None:
    assert client.add(1, FILES[0]).hash == HASHES[0]
    assert client.add(2, HASHES[1]).hash == HASHES[1]
    later = client.add_later(3, FILES[2].read_bytes())
    assert (later.post_id, later.status) == (3, 200)
    assert client.get(3).hash == HASHES[2]
    for picture in (FILES[0], FILES[0].read_bytes(), HASHES[0], 1):
        best = client.query(picture, limit=2)
        assert len(best) == 2
        assert (best[0].post_id, best[0].score, best[0].hash) == (1, 100.0, HASHES[0])
    client.delete(1, 2)
    assert [match.post_id for match in client.query(HASHES[0])] == [3]
    with pytest.raises(NotFound):
        client.get(1)


def test_a_batch_has_an_outcome_for_each(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    good, bad = client.add_many({1: FILES[0], 2: broken})
    assert good.image is not None
    assert good.image.hash == HASHES[0]
    assert bad.image is None
    assert bad.reason
    assert (good.status, bad.status) == (200, 422)
    assert [outcome.status for outcome in client.add_many({3: HASHES[0], 4: HASHES[1]})] == [200, 200]


def test_a_batch_mixes_hashes_with_pictures(client: Client) -> None:
    outcomes = client.add_many({1: FILES[0], 2: HASHES[1], 3: "iqdb_0"}, sources={2: "two"})
    assert [outcome.status for outcome in outcomes] == [200, 200, 400]
    assert client.get(2).hash == HASHES[1]
    assert client.get(2).source == "two"


def test_what_is_as_long_as_it_may_be_is_taken(client: Client) -> None:
    source = "\N{GRINNING FACE}" * 2000
    ids = range(1, 1001)
    outcomes = client.add_many(dict.fromkeys(ids, HASHES[0]), sources=dict.fromkeys(ids, source))
    assert {outcome.status for outcome in outcomes} == {200}
    assert client.get(1000).source == source
    for number, picture in ((1, HASHES[1]), (2, FILES[1])):
        client.add(number, picture, source=source)
        assert client.get(number) == Image(number, HASHES[1], source)
    exclude = (1, *range(MAX_IMAGE_ID - 998, MAX_IMAGE_ID + 1))
    for asked in (HASHES[1], FILES[1], 1):
        assert client.query(asked, limit=1, exclude=exclude)[0].post_id == 2
    client.delete(*ids)


def test_refusals_say_why(client: Client) -> None:
    with pytest.raises(Refused, match="limit") as caught:
        client.query(HASHES[0], limit=100_000)
    assert caught.value.status == 400
    with pytest.raises(Refused, match="hash"):
        client.add(1, "iqdb_123")


def test_a_picture_whose_name_is_no_text_is_sent_like_any_other(client: Client, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"b\xfccher.jpg")
    shutil.copyfile(FILES[0], odd)
    assert client.add(1, odd).hash == HASHES[0]
    assert [one.status for one in client.add_many({2: odd, 3: FILES[1]})] == [200, 200]
    assert client.query(odd, limit=1)[0].score == pytest.approx(100, abs=0.01)
    assert client.get(1).source in {None, "b?cher.jpg"}


def test_a_wrong_token_is_told_apart(url: str, client: Client) -> None:
    assert client.status().images == 0
    with Client(url, token="wrong") as stranger, pytest.raises(Unauthorized):
        stranger.add(1, HASHES[0])


def test_a_command_tells_how_it_gets_a_token(url: str) -> None:
    for given in ((), ("--token", "wrong")):
        ended = run("rm", "1", "--url", url, *given)
        assert ended.returncode == 1
        assert ended.stderr.endswith(" (--token, IQDB_TOKEN)\n")


def test_the_asynchronous_client_does_the_same(url: str, client: Client) -> None:
    async def use() -> None:
        async with AsyncClient(url, token=TOKEN) as made:
            await asyncio.gather(*(made.add(image_id, FILES[image_id]) for image_id in range(3)))
            assert (await made.status()).images == 3
            assert (await made.query(FILES[1], limit=1))[0].post_id == 1
            assert (await made.get(2)).hash == HASHES[2]
            outcomes = await made.add_many({4: HASHES[0]})
            assert outcomes[0].status == 200
            await made.delete(0, 1, 2, 4)
            with pytest.raises(NotFound):
                await made.get(2)

    asyncio.run(use())
    assert client.status().images == 0


def test_a_server_that_is_away_is_given_up_in_time() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", patience_s=0.5) as client, pytest.raises(Unavailable):
        client.status()
