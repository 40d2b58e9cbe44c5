"""Several threads at once, compiled code and the memory that pixels are in."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from iqdb_core import kernel as kernel_module
from iqdb_core.signature import bands, flatten, from_image_bytes, haar, resample, select, warm_up
from iqdb_core.signature.packed import indexed, packed
from tests.fixtures.pictures import format_files, golden, picture

ROOT = Path(__file__).parents[2]


def kernels() -> dict[str, int]:
    """Return how many versions are compiled of each kernel that is called from Python."""
    return {
        f"{module.__name__}.{name}": len(value.nopython_signatures)
        for module in (flatten, haar, resample, select)
        for name, value in vars(module).items()
        if hasattr(value, "nopython_signatures") and not name.startswith("_")
    }


def test_eight_threads_compute_what_one_computes() -> None:
    files = [path.read_bytes() for path, _ in golden() if path.stat().st_size < 100_000] * 3
    alone = [from_image_bytes(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(from_image_bytes, files)) == alone


def test_hashing_a_large_picture_leaves_the_interpreter_to_others() -> None:
    """A thread that only counts goes on counting while another decodes and hashes."""
    data = picture(1, (4000, 3000))
    from_image_bytes(data)
    done = threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    before = counted
    from_image_bytes(data)
    meanwhile = counted - before
    done.set()
    counter.join()
    assert meanwhile > 10_000


def test_warming_up_compiles_everything_that_images_need() -> None:
    warm_up()
    compiled = kernels()
    assert len(compiled) >= 8
    assert min(compiled.values()) >= 1
    for path in format_files():
        from_image_bytes(path.read_bytes())
    assert kernels() == compiled


def test_kernels_release_the_gil_and_keep_to_strict_arithmetic() -> None:
    @kernel_module.kernel(allocates=True)
    def half(value: float) -> float:
        return value / 2

    assert half(3.0) == 1.5
    options = half.targetoptions  # type: ignore[attr-defined]
    assert options["nogil"]
    assert not options.get("fastmath")
    assert not options.get("parallel")


def test_pixels_outlive_the_image_they_came_from() -> None:
    def lent() -> np.ndarray:
        return packed(Image.new("RGB", (500, 400), (1, 2, 3)))

    pixels = [lent() for _ in range(5)]
    gc.collect()
    others = [Image.new("RGB", (500, 400), (9, 9, 9)) for _ in range(10)]
    for rows in pixels:
        assert ((rows & 0xFFFFFF) == 0x030201).all()
    assert len(others) == 10


def test_pixels_are_the_images_own_memory_and_cannot_be_written() -> None:
    image = Image.new("L", (30, 20), 5)
    rows = indexed(image)
    assert not rows.flags.writeable
    assert rows.shape == (20, 30)
    image.putpixel((3, 2), 77)
    assert rows[2, 3] == 77


def test_images_in_several_pieces_are_copied() -> None:
    for mode, read in (("RGB", packed), ("RGBA", packed), ("L", indexed)):
        image = Image.linear_gradient("L").resize((4200, 4100)).convert(mode)
        rows = read(image)
        low = rows & 255 if mode != "L" else rows
        assert np.array_equal(low, np.asarray(image.convert("L")))


def test_bands_of_any_kind_of_pixels_are_alike() -> None:
    """Large pictures, which Pillow keeps in pieces, take another way than small ones."""
    for mode in ("L", "P", "RGB", "RGBA", "1", "LA"):
        large = Image.linear_gradient("L").resize((2100, 2050)).convert(mode)
        small = large.crop((0, 0, 300, 2050))
        rows = np.concatenate([band.copy() for band in bands.upright_bands(large, 1)])
        expected = np.concatenate([band.copy() for band in bands.upright_bands(small, 1)])
        assert np.array_equal(rows[:, :300] & 0xFFFFFF, expected & 0xFFFFFF)
