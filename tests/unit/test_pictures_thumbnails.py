"""Thumbnails of files: small, made once, cached within bounds, and none of what cannot be read."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path

from PIL import Image

from api.pictures.folder import FileVersion, PictureFolder
from api.pictures.thumbnails import SIDE, Thumbnails, tag_of
from iqdb_core.signature import DecodeLimits
from tests.fixtures import pictures
from tests.fixtures.waiting import until


class SlowFolder(PictureFolder):
    """A folder whose files take as long to be read as the test says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_read = threading.Event()
        self.reads: list[str] = []

    def read(self, file: FileVersion) -> bytes | None:
        self.reads.append(file.path.name)
        self.is_read.wait()
        return super().read(file)


def thumbnails(folder: Path | PictureFolder, cache_bytes: int = 1 << 20) -> Thumbnails:
    return Thumbnails(
        folder if isinstance(folder, PictureFolder) else PictureFolder(folder),
        limits=DecodeLimits(max_pixels=1_000_000),
        max_bytes=500_000,
        cache_bytes=cache_bytes,
    )


def test_a_file_is_shown_small_and_made_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(pictures.picture(1, (SIDE * 2, SIDE)))

    async def look() -> None:
        ones = thumbnails(tmp_path)
        file = await ones.find("a.png")
        assert file is not None
        first = await ones.thumbnail(file)
        assert first is not None
        assert Image.open(io.BytesIO(first)).size == (SIDE, SIDE // 2)
        assert await ones.thumbnail(file) is first
        (tmp_path / "a.png").write_bytes(pictures.picture(2, (SIDE, SIDE)))
        changed = await ones.find("a.png")
        assert changed is not None
        assert tag_of(changed) != tag_of(file)
        assert await ones.thumbnail(changed) != first

    asyncio.run(look())


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(pictures.picture(number, (200, 200)))

    async def look() -> None:
        ones = thumbnails(tmp_path, cache_bytes=20_000)
        for number in range(6):
            file = await ones.find(f"{number}.jpg")
            assert file is not None
            assert await ones.thumbnail(file) is not None
            assert sum(map(len, ones._kept.values())) == ones._kept_bytes <= 20_000
        assert len(ones._kept) < 6

    asyncio.run(look())


def test_unreadable_and_too_large_files_have_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_bytes(b"text")
    (tmp_path / "large.bmp").write_bytes(bytes(500_001))
    (tmp_path / "wide.png").write_bytes(pictures.flat((1, 2, 3), (2000, 1000)))

    async def look() -> None:
        ones = thumbnails(tmp_path)
        assert await ones.find("large.bmp") is None
        for name in ("text.jpg", "wide.png"):
            file = await ones.find(name)
            assert file is not None
            assert await ones.thumbnail(file) is None

    asyncio.run(look())


def test_cached_thumbnails_do_not_wait_and_are_made_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(pictures.picture(ord(name), (200, 200)))

    async def look() -> None:
        folder = SlowFolder(tmp_path)
        ones = thumbnails(folder)
        a, b, c = [await ones.find(name) for name in "abc"]
        assert a is not None
        assert b is not None
        assert c is not None
        folder.is_read.set()
        made = await ones.thumbnail(a)
        folder.is_read.clear()
        tasks = [asyncio.create_task(ones.thumbnail(file)) for file in (b, b, c, c)]
        try:
            await until(lambda: len(folder.reads) == 3)  # all turns are taken
            assert await asyncio.wait_for(ones.thumbnail(a), 60) is made
            assert folder.reads == ["a", "b", "b"]
        finally:
            folder.is_read.set()
            shown = await asyncio.gather(*tasks)
        assert None not in shown
        assert await ones.thumbnail(b) in shown[:2]

    asyncio.run(look())
