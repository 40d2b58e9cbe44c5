"""Memory that runs out is no fault of the picture's: in a real process whose address space is limited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.pictures import encoded

ROOT = Path(__file__).parents[2]

LIMITED = """
import os, resource, sys
from pathlib import Path
from iqdb_core.errors import ImageError, OutOfMemory
from iqdb_core.signature import DecodeLimits, read_image, warm_up
from iqdb_core.signature.thumbnail import thumbnail

def try_to_read(name, how):
    data = Path(name).read_bytes()
    if how == "signature":
        read = read_image
    else:
        read = lambda data: thumbnail(data, 90, limits=DecodeLimits())
        read(b"P6 2 2 255 " + bytes(2 * 2 * 3))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20, hard))
    told = "it fits"
    try:
        read(data)
    except OutOfMemory as error:
        told = "it may be tried again" if error.retryable else "never"
    except ImageError as error:
        told = f"the picture's fault: {error}"
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    print(told, "and", "damaged" if read_image(data).is_damaged else "whole", flush=True)

warm_up()
for picture in sys.argv[1:]:
    if os.fork() == 0:
        try_to_read(*picture.split(":"))
        os._exit(0)
    assert os.wait()[1] == 0
"""
"""Each picture has a process of its own, which has never held another one."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to learn how much address space is used")
def test_a_picture_that_does_not_fit_now_is_not_called_damaged(tmp_path: Path) -> None:
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("baseline", "JPEG", {}),
        ("progressive", "JPEG", {"progressive": True}),
        ("png", "PNG", {}),
        ("gif", "GIF", {}),
        ("webp", "WEBP", {"lossless": True}),
        ("tiff", "TIFF", {"compression": "tiff_lzw"}),
        ("bmp", "BMP", {}),
        ("avif", "AVIF", {"speed": 10}),
    ]
    for name, image_format, options in kinds:
        mode, size = ("P", (10_000, 5_000)) if image_format == "GIF" else ("RGB", (4_000, 3_000))
        image = Image.new(mode, size, (90, 20, 160))
        (tmp_path / name).write_bytes(encoded(image, image_format, **options))
    names = [name for name, _, _ in kinds]
    pictures = [f"{name}:signature" for name in names] + ["baseline:thumbnail"]
    command = [sys.executable, "-c", LIMITED, *pictures]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = dict(zip(pictures, ran.stdout.splitlines(), strict=True))
    if told["bmp:signature"] == "it fits and whole":  # unpacked band by band: it may well fit
        del told["bmp:signature"]
    assert set(told.values()) == {"it may be tried again and whole"}, told
