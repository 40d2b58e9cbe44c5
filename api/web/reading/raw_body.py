"""A picture as the whole body: `curl --data-binary @a.jpg -H 'Content-Type: image/jpeg'`.

Also explains a common mistake: without that header curl declares the body to be a form. Called by
`parameters`.
"""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from starlette.datastructures import UploadFile

from api.web.errors import BadRequest
from api.web.reading.body import Body
from api.web.reading.multipart import SPOOL_BYTES

_RAW_TYPES: Final = frozenset({"application/octet-stream", "binary/octet-stream"})
_LOOK_BYTES: Final = 512
_TEXT: Final = frozenset(range(0x20, 0x7F)) | {9, 10, 13}

MISTAKEN: Final = (
    "the body is not the form that its Content-Type says; if it is a picture, say so:"
    " curl --data-binary @FILE -H 'Content-Type: image/jpeg', or send it as a form: curl -F file=@FILE"
)


def is_picture_type(kind: str) -> bool:
    """Return whether a body of this media type is a picture; its content decides the format."""
    return kind.startswith("image/") or kind in _RAW_TYPES


async def raw_upload(body: Body) -> UploadFile:
    """Return the body as an upload, which the caller closes."""
    spool = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by the caller
    try:
        upload = UploadFile(cast("BinaryIO", spool), filename="body", size=0)
        async for chunk in body.chunks():
            await upload.write(chunk)
        await upload.seek(0)
    except BaseException:
        spool.close()
        raise
    return upload


def require_form(first: bytes) -> None:
    """Raise BadRequest with advice if a body is declared to be a form but begins like a file."""
    if any(byte not in _TEXT for byte in first[:_LOOK_BYTES]):
        raise BadRequest(MISTAKEN)
