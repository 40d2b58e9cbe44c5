"""Hashing against decoding alone, and images per second on one thread and on two.

Claim: computing a signature from decoded pixels costs less than decoding them: about 0.4 of it for JPEG
photos of the usual size, less for larger ones and for formats that decode more slowly; only BMP, which
needs no decoding, is read faster than hashed. Two threads hash nearly twice as many images as one on two
idle cores, since neither part holds the GIL.

Method: the JPEGs among the test pictures (0.1 to 0.4 megapixels) and one picture made by code in several
formats and sizes. Every file is timed alone, in turn with its control, and the fastest of the rounds counts:
slower ones are disturbed by other work of the machine. Threads: all JPEGs, many times, through a pool of each
size; images per second of the whole, and how many cores the two threads got from a machine with other work.
Control: Pillow opening and loading the same bytes, in the same run and thread.

    python -m benchmarks.signature [--rounds 30]
"""

from __future__ import annotations

import argparse
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL import Image

from iqdb_core.signature import from_image_bytes, warm_up
from iqdb_core.signature.decode import decode
from iqdb_core.signature.haar import coefficients
from iqdb_core.signature.picture import DecodeLimits
from iqdb_core.signature.resample import Shrinking
from iqdb_core.signature.select import signed_positions
from tests.fixtures.pictures import colours, encoded, photos

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD_IMAGES = 1200
MADE: tuple[tuple[str, tuple[int, int], dict[str, object]], ...] = (
    ("JPEG", (500, 400), {"quality": 85}),
    ("JPEG", (500, 400), {"quality": 85, "progressive": True}),
    ("JPEG", (2000, 1500), {"quality": 85}),
    ("JPEG", (6000, 4000), {"quality": 85}),
    ("PNG", (500, 400), {}),
    ("GIF", (500, 400), {}),
    ("WEBP", (500, 400), {}),
    ("AVIF", (500, 400), {}),
    ("BMP", (500, 400), {}),
    ("TIFF", (500, 400), {"compression": "tiff_lzw"}),
)


def load(data: bytes) -> None:
    """Decode with Pillow and nothing else: the control."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def fastest(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Return the shortest time of each action in ms; the actions take turns."""
    best = [float("inf")] * len(actions)
    for _ in range(rounds):
        for n, action in enumerate(actions):
            begin = time.perf_counter()
            action()
            best[n] = min(best[n], (time.perf_counter() - begin) * 1e3)
    return best


def compare(data: bytes, rounds: int) -> tuple[float, float]:
    """Return the times of decoding alone and of the whole signature, in ms."""
    decoding, whole = fastest(rounds, lambda: load(data), lambda: from_image_bytes(data))
    return decoding, whole


def print_files(jpegs: list[bytes], rounds: int) -> None:
    """Time the JPEGs of the test pictures together, then the made files one by one."""
    print(f"{'':34}{'decode ms':>10}{'whole ms':>10}{'hash/decode':>13}")
    times = [compare(data, rounds) for data in jpegs]
    decoding, whole = (sum(column) / len(times) for column in zip(*times, strict=True))
    print(f"{f'mean of {len(jpegs)} test JPEGs':34}{decoding:10.2f}{whole:10.2f}{whole / decoding - 1:13.2f}")
    for image_format, size, options in MADE:
        image = colours(1, size)
        data = encoded(image.quantize(64) if image_format == "GIF" else image, image_format, **options)
        decoding, whole = compare(data, rounds if size[0] < 1000 else max(3, rounds // 10))
        name = f"{image_format} {size[0]} x {size[1]}{' progressive' if 'progressive' in options else ''}"
        print(f"{name:34}{decoding:10.2f}{whole:10.2f}{whole / decoding - 1:13.2f}")


def print_kernels(rounds: int) -> None:
    """Time the parts after decoding for one 200-kilopixel picture."""
    data = encoded(colours(1, (500, 400)), "JPEG", quality=85)
    (band,) = decode(data, DecodeLimits()).bands

    def shrink() -> Shrinking:
        shrinking = Shrinking(500, 400)
        shrinking.add(band)
        return shrinking

    small = shrink().small()
    planes = coefficients(small)
    names = ("shrink", "YIQ and Haar", "select")
    times = fastest(rounds * 10, shrink, lambda: coefficients(small), lambda: signed_positions(planes))
    print(
        "\nparts for 500 x 400 pixels, ms: "
        + ", ".join(f"{n} {t:.3f}" for n, t in zip(names, times, strict=True))
    )


def print_threads(jpegs: list[bytes]) -> None:
    """Measure images per second of pools of one and two threads, decoding alone and whole."""
    files = (jpegs * (THREAD_IMAGES // len(jpegs) + 1))[:THREAD_IMAGES]
    print(f"\n{'images per second':34}{'1 thread':>10}{'2 threads':>11}{'ratio':>8}{'cores got':>12}")
    for name, action in (("decode", load), ("whole", from_image_bytes)):
        rates = []
        for threads in (1, 2):
            with ThreadPoolExecutor(threads) as pool:
                begin, busy = time.perf_counter(), time.process_time()
                list(pool.map(action, files))
                took = time.perf_counter() - begin
            rates.append(len(files) / took)
        cores = (time.process_time() - busy) / took
        print(f"{name:34}{rates[0]:10.0f}{rates[1]:11.0f}{rates[1] / rates[0]:8.2f}{cores:12.2f}")


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    warm_up()
    jpegs = [path.read_bytes() for path in photos() if path.suffix == ".jpg"]
    print_files(jpegs, rounds)
    print_kernels(rounds)
    print_threads(jpegs)


if __name__ == "__main__":
    main()
