"""Pictures to signatures in threads: what follows begins there, and whoever waits hears of every end."""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest
from starlette.datastructures import UploadFile

from api.ingestion.hashing import Abandoned, Hasher
from api.ingestion.picture import BodyTooLarge
from api.metrics.stages import Stage
from iqdb_core.errors import ImageError, StoreUnavailable
from iqdb_core.signature import DecodeLimits, ReadImage, from_image_bytes
from tests.fixtures.noise import noise_png
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = noise_png(1)
SIGNATURE = from_image_bytes(IMAGE)


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    made = Hasher(decoders=1, limits=DecodeLimits(), max_upload_bytes=100_000)
    yield made
    made.close()


def upload(data: bytes) -> UploadFile:
    return UploadFile(io.BytesIO(data))


def test_the_next_step_starts_in_the_decoders_thread(hasher: Hasher) -> None:
    names = []
    following: Future[str] = Future()

    def then(read: ReadImage) -> Future[str]:
        names.append(threading.current_thread().name)
        threading.Timer(0.01, following.set_result, [f"stored {read.signature == SIGNATURE}"]).start()
        return following

    read, told = asyncio.run(hasher.read_and(upload(IMAGE), then))
    assert (read.signature, told) == (SIGNATURE, "stored True")
    assert names[0].startswith("decode")


def test_pictures_of_disconnected_clients_are_not_decoded() -> None:
    """But what has begun is: its file is read, and must not be closed meanwhile."""
    decoded: list[Stage] = []
    made = Hasher(
        decoders=1,
        limits=DecodeLimits(),
        max_upload_bytes=100_000,
        observe=lambda stage, _: decoded.append(stage),
    )
    begun, go_on = threading.Event(), threading.Event()

    class HeldFile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            begun.set()
            assert go_on.wait(60)
            return super().read(size)

    async def scenario() -> None:
        leave, stay = asyncio.Event(), asyncio.Event()

        def ask(gone: asyncio.Event, file: io.BytesIO | None = None) -> asyncio.Task[object]:
            async def until_gone() -> None:
                await gone.wait()

            picture = UploadFile(file or io.BytesIO(IMAGE))
            if len(asked) % 2:
                return asyncio.ensure_future(made.read(picture, gone=until_gone))
            return asyncio.ensure_future(
                made.read_query(picture, turns=None, has_parts=True, gone=until_gone)
            )

        asked: list[asyncio.Task[object]] = []
        for gone, file in [(leave, HeldFile(IMAGE)), *[(leave, None)] * 20, (stay, None)]:
            asked.append(ask(gone, file))
        await until(begun.is_set)
        leave.set()
        await until(lambda: all(task.done() for task in asked[1:-1]))
        assert not asked[0].done()
        go_on.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found[:-1]] == [Abandoned] * 21
        assert isinstance(found[-1], ReadImage)
        assert found[-1].signature == SIGNATURE

    asyncio.run(scenario())
    made.close()
    assert decoded.count(Stage.DECODE) == 1


def test_connected_clients_get_the_error_of_their_picture(hasher: Hasher) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ImageError):
        asyncio.run(hasher.read(upload(b"no picture"), gone=never))


def test_a_known_signature_needs_no_thread(hasher: Hasher) -> None:
    names = []

    def then(_: ReadImage) -> Future[int]:
        names.append(threading.current_thread().name)
        done: Future[int] = Future()
        done.set_result(7)
        return done

    read, told = asyncio.run(hasher.read_and(SIGNATURE, then))
    assert (read.signature, told, names) == (SIGNATURE, 7, [threading.current_thread().name])


def never(_: ReadImage) -> Future[int]:
    raise AssertionError("nothing may follow")


@pytest.mark.parametrize(
    ("data", "error"), [(b"no image", ImageError), (b"x" * 100_001, BodyTooLarge)], ids=["broken", "large"]
)
def test_the_error_of_an_unreadable_picture_is_raised(
    hasher: Hasher, data: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(hasher.read_and(upload(data), never))
    with pytest.raises(error):
        asyncio.run(hasher.read(upload(data)))


def test_the_error_of_the_next_step_is_raised(hasher: Hasher) -> None:
    def refused(_: ReadImage) -> Future[int]:
        raise StoreUnavailable("stopping")

    def failing(_: ReadImage) -> Future[int]:
        done: Future[int] = Future()
        done.set_exception(StoreUnavailable("away"))
        return done

    for then in (refused, failing):
        with pytest.raises(StoreUnavailable):
            asyncio.run(hasher.read_and(upload(IMAGE), then))


def test_a_client_that_goes_while_it_waits_for_a_decoder_costs_none(hasher: Hasher) -> None:
    gate = threading.Event()

    def held(_: ReadImage) -> Future[int]:
        assert gate.wait(30)
        done: Future[int] = Future()
        done.set_result(1)
        return done

    async def scene() -> int:
        first = asyncio.create_task(hasher.read_and(upload(IMAGE), held))
        second = asyncio.create_task(hasher.read_and(upload(IMAGE), never))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        assert second.cancelled()
        gate.set()
        return (await first)[1]

    assert asyncio.run(scene()) == 1
