"""Memory that runs out is no fault of the picture's: in a real process whose address space is limited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.pictures import encoded

ROOT = Path(__file__).parents[2]

LIMITED = """
import resource, sys
from pathlib import Path
from iqdb_core.errors import ImageError, OutOfMemory
from iqdb_core.signature import DecodeLimits, read_image, warm_up
from iqdb_core.signature.thumbnail import thumbnail

warm_up()
data = Path(sys.argv[1]).read_bytes()
if sys.argv[2] == "signature":
    read = read_image
else:
    read = lambda data: thumbnail(data, 90, limits=DecodeLimits())
    read(b"P6 2 2 255 " + bytes(2 * 2 * 3))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20, hard))
try:
    read(data)
except OutOfMemory as error:
    print("out of memory,", "may be tried again" if error.retryable else "for good")
except ImageError as error:
    print("the picture's fault:", error)
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
print(read_image(data).is_damaged)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to learn how much address space is used")
@pytest.mark.parametrize(
    ("image_format", "options", "read"),
    [
        ("JPEG", {}, "signature"),
        ("JPEG", {"progressive": True}, "signature"),
        ("PNG", {}, "signature"),
        ("GIF", {}, "signature"),
        ("WEBP", {"lossless": True}, "signature"),
        ("TIFF", {"compression": "tiff_lzw"}, "signature"),
        ("BMP", {}, "signature"),
        ("AVIF", {"speed": 10}, "signature"),
        ("JPEG", {}, "thumbnail"),
    ],
)
def test_a_picture_that_does_not_fit_now_is_not_called_damaged(
    image_format: str, options: dict[str, object], read: str, tmp_path: Path
) -> None:
    size = (10_000, 5_000) if image_format == "GIF" else (4_000, 3_000)
    file = tmp_path / "file"
    file.write_bytes(encoded(Image.new("RGB", size, (90, 20, 160)), image_format, **options))
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file), read], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *first, last = ran.stdout.splitlines()
    assert last == "False"
    if image_format != "BMP" or first:  # unpacked band by band: it may well fit
        assert first == ["out of memory, may be tried again"]
