"""The forms in which a picture arrives: a file, its colour channels, or its signature.

Knows no HTTP. `api.web.reading.requests` makes these values, the hasher and the ingestion take them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, cast

from starlette.datastructures import UploadFile

from iqdb_core.errors import IqdbError
from iqdb_core.model import Signature
from iqdb_core.signature import from_channels

SPOOL_BYTES: Final = 1024 * 1024
"""Up to this size a file stays in memory; larger ones wait on disk until a decoder is free."""


class BodyTooLarge(IqdbError):
    """More bytes than the limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is larger than the limit of {max_bytes:,} bytes")


@dataclass(frozen=True, slots=True)
class Channels:
    """The e621 dialect's picture: 128 x 128 colour channels, not yet checked."""

    red: Any
    green: Any
    blue: Any

    def signature(self) -> Signature:
        """Compute the signature; takes milliseconds, so not on the event loop. Raises InvalidChannels."""
        return from_channels(self.red, self.green, self.blue)


Picture = UploadFile | Channels | Signature
"""The forms of a picture: a file, its colour channels, or its signature."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to add.

    Parameters
    ----------
    image_id : int
    picture : Picture
    source : str or None
        Where it came from; None keeps a source that is already stored.
    if_absent : bool
        Never replace an image: if one has the id already, raise `ImageExists`.
    """

    image_id: int
    picture: Picture
    source: str | None = None
    if_absent: bool = False


async def spooled(chunks: AsyncIterable[bytes]) -> UploadFile:
    """Return what arrives in pieces as a file, which the caller closes."""
    spool = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by the caller
    try:
        upload = UploadFile(cast("BinaryIO", spool), size=0)
        async for chunk in chunks:
            await upload.write(chunk)
        await upload.seek(0)
    except BaseException:
        spool.close()
        raise
    return upload


async def read_upload(upload: UploadFile, max_bytes: int) -> bytes:
    """Read an upload whole; raises BodyTooLarge when it is over `max_bytes`."""
    return _bounded(await upload.read(max_bytes + 1), max_bytes)


def upload_bytes(upload: UploadFile, max_bytes: int) -> bytes:
    """Read an upload whole, blocking, for use in a thread; raises as `read_upload`."""
    return _bounded(upload.file.read(max_bytes + 1), max_bytes)


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise BodyTooLarge(max_bytes)
    return data
