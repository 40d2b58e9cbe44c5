"""Commands on a server, over its HTTP API."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from api.roles.command_parts.content import content_of
from api.roles.command_parts.reasons import reason_of
from api.roles.command_parts.show import say
from api.roles.command_parts.target import IS_DAMAGED, Added, Entry
from iqdb_client import Client, Image, Match, NotFound, Outcome, Picture, Question, Refused, Unavailable
from iqdb_client.retrying import BUSY
from iqdb_core.errors import ImageError

if TYPE_CHECKING:
    from api.roles.command_parts.arithmetic import Arithmetic
    from api.search.duplicates import DuplicatesPage

CONTACT_S: Final = 5.0
"""How long a server that has not answered at all is tried: its address may be wrong."""
NOTICE_S: Final = 2.0
"""After so long, people are told what is waited for."""
JOB_S: Final = 600.0
"""How long to wait for an image that is accepted, and queued behind others."""
LOOK_S: Final = 0.5
SEND_BYTES: Final = 8 * 1024 * 1024
"""A request that has so much is sent: its pictures are held in memory."""
RUN: Final = 1000
"""Ids that are no further apart are asked for in one request."""


class ServerTarget:
    """A server as a `Target`.

    Parameters
    ----------
    url : str
    token : str or None
    hash_here : bool
        Send 264 bytes of signature per picture instead of the file; this machine decodes.
    max_pixels : int
        Limit of pictures decoded here.
    """

    def __init__(self, url: str, *, token: str | None, hash_here: bool, max_pixels: int) -> None:
        self.name = url
        self._has_told = False
        self._client = Client(url, token=token, contact_s=CONTACT_S, on_wait=self._tell)
        self._hash_here = hash_here
        self._arithmetic: Arithmetic | None = None
        self._lock = threading.Lock()
        self._max_pixels = max_pixels

    def add(self, entries: Sequence[Entry]) -> list[Added]:
        """See `Target`. Raises Unavailable as well if the server could take none of them."""
        told: dict[int, Added] = {}
        for if_absent in (False, True):
            places = [place for place, one in enumerate(entries) if one.if_absent is if_absent]
            told |= zip(places, self._add([entries[place] for place in places], if_absent), strict=True)
        added = [told[place] for place in range(len(entries))]
        # One that takes some goes on: a single picture may need more memory than the server ever has.
        if added and all(one.is_late for one in added):
            raise Unavailable(added[0].reason or "the server is busy")
        return added

    def _add(self, entries: Sequence[Entry], if_absent: bool) -> list[Added]:
        """Add pictures that are all to replace images, or none."""
        outcomes: dict[int, Added] = {}
        damaged = set()
        pictures: dict[int, bytes | str] = {}
        size = 0
        sources = {entry.image_id: entry.source for entry in entries if entry.source is not None}
        for entry in entries:
            try:
                pictures[entry.image_id], is_damaged = self._prepared(entry.picture)
            except (OSError, ImageError) as error:
                outcomes[entry.image_id] = Added(reason_of(error, self._max_pixels))
                continue
            if is_damaged:
                damaged.add(entry.image_id)
            size += len(pictures[entry.image_id])
            if size >= SEND_BYTES:
                outcomes |= self._sent(pictures, sources, if_absent, damaged)
                pictures, size = {}, 0
        outcomes |= self._sent(pictures, sources, if_absent, damaged)
        return [outcomes[entry.image_id] for entry in entries]

    def _sent(
        self,
        pictures: Mapping[int, bytes | str],
        sources: Mapping[int, str],
        if_absent: bool,
        damaged: Collection[int],
    ) -> dict[int, Added]:
        """Send pictures in one request, and tell what became of each; in two where that is too large."""
        try:
            outcomes = self._client.add_many(pictures, sources=sources, if_absent=if_absent)
        except Refused as refused:
            if refused.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            ids = list(pictures)
            if len(ids) == 1:
                return {ids[0]: Added(str(refused))}
            halves = (ids[: len(ids) // 2], ids[len(ids) // 2 :])
            parts = [{one: pictures[one] for one in half} for half in halves]
            first, second = (self._sent(part, sources, if_absent, damaged) for part in parts)
            return first | second
        return {one.post_id: self._added(one, if_absent, one.post_id in damaged) for one in outcomes}

    def _added(self, outcome: Outcome, if_absent: bool, is_damaged: bool) -> Added:
        if if_absent and outcome.job_id is not None:
            return self._ended(outcome.post_id, outcome.job_id)
        if if_absent and outcome.status == HTTPStatus.CONFLICT:
            return Added(is_taken=True)
        is_damaged = is_damaged or bool(outcome.image and outcome.image.is_damaged)
        return Added(
            outcome.reason,
            is_damaged=outcome.reason is None and is_damaged,
            is_late=outcome.status in BUSY,
        )

    def _ended(self, image_id: int, job_id: str) -> Added:
        """Wait for a job that is accepted: only its end tells whether the id was free."""
        end_s = time.monotonic() + JOB_S
        while (job := self._client.job(job_id)).state not in {"done", "failed"}:
            if time.monotonic() > end_s:
                return Added(f"it is accepted, but not done yet: see job {job_id}")
            time.sleep(LOOK_S)
        if job.state == "done":
            return Added()
        # Whatever else is wrong with the picture is told when it is added under another id.
        return Added(is_taken=True) if not self.missing([image_id]) else Added(job.reason or "it failed")

    def _prepared(self, picture: Picture) -> tuple[bytes | str, bool]:
        """Return what is sent, and whether it is known to be damaged."""
        return self._hash_of(picture) if self._hash_here else (content_of(picture), False)

    def _hash_of(self, picture: Picture) -> tuple[str, bool]:
        content = content_of(picture)
        if isinstance(content, str):
            return content, False
        # What decodes takes a tenth of a second to load, and most commands leave that to the server.
        from api.roles.command_parts.arithmetic import Arithmetic  # noqa: PLC0415
        from iqdb_core import codec  # noqa: PLC0415
        from iqdb_core.signature import DecodeLimits, read_image  # noqa: PLC0415

        with self._lock:  # several threads add
            self._arithmetic = arithmetic = self._arithmetic or Arithmetic()
        with arithmetic.decoding():
            read = read_image(content, limits=DecodeLimits(max_pixels=self._max_pixels))
        return codec.to_hash(read.signature), read.is_damaged

    def missing(self, image_ids: Sequence[int]) -> set[int]:
        """See `Target`."""
        return set(self._client.missing(image_ids))

    def there(self, image_ids: Sequence[int]) -> dict[int, str | None]:
        """See `Target`."""
        found: dict[int, str | None] = {}
        for first, last in _runs(image_ids):
            # One page has them all; no other is asked for.
            for image in self._client.listed(_above(first - 1), page_images=last - first + 1):
                if image.post_id <= last:
                    found[image.post_id] = image.source
                if image.post_id >= last:
                    break
        return {image_id: found[image_id] for image_id in image_ids if image_id in found}

    def listed(self, after: int = -1) -> Iterator[tuple[int, str | None]]:
        """See `Target`."""
        return ((image.post_id, image.source) for image in self._client.listed(_above(after)))

    def is_same(self, image_id: int, picture: Picture) -> bool:
        """See `Target`."""
        try:
            known = self._client.get(image_id).hash
            return self._hash_of(picture)[0] == known
        except (OSError, ImageError, NotFound):
            return False

    def search(self, picture: Picture | int, question: Question) -> list[Match]:
        """See `Target`."""
        found = self._client.query(picture, question)
        if found.is_damaged:
            say(f"the picture {IS_DAMAGED}")
        return found

    def get(self, image_id: int) -> Image:
        """See `Target`."""
        return self._client.get(image_id)

    def remove(self, image_ids: Sequence[int]) -> None:
        """See `Target`."""
        self._client.delete(*image_ids)

    def status(self) -> dict[str, Any]:
        """See `Target`."""
        return dict(self._client.status().details)

    def duplicates(self, after: int, min_likelihood: float) -> DuplicatesPage:
        """See `Target`."""
        from api.search.duplicates import page_of  # noqa: PLC0415 - brings the index

        return page_of(self._client.duplicates(after, min_likelihood))

    def images(self) -> Iterator[Image]:
        """See `Target`."""
        rest = b""
        for piece in self._client.export():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield Image.from_body(json.loads(line))
        if rest:
            raise Unavailable("the export ended in the middle of a line")

    def write_iqdb_file(self, path: Path, progress: Callable[[int, int], None]) -> int:
        """See `Target`."""
        from iqdb_core.store.contents.files import new_file  # noqa: PLC0415 - brings SQL

        del progress  # the server makes the file first, and says nothing meanwhile
        with new_file(path) as part:
            with part.open("wb") as out:
                for piece in self._client.export("sqlite"):
                    out.write(piece)
            with closing(sqlite3.connect(part)) as connection:
                return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def _tell(self, cause: str, seconds: float) -> None:
        if seconds >= NOTICE_S and not self._has_told:
            self._has_told = True
            say(f"waiting for {self.name}: {cause}")

    def close(self) -> None:
        """See `Target`."""
        if self._arithmetic is not None:
            self._arithmetic.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _above(after: int) -> int | None:
    """Return the id after which a list begins, None for the beginning."""
    return after if after >= 0 else None


def _runs(image_ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of ids that are near each other, ascending."""
    first = last = -1
    for image_id in sorted(image_ids):
        if first < 0:
            first = image_id
        elif image_id - first >= RUN:
            yield first, last
            first = image_id
        last = image_id
    if first >= 0:
        yield first, last
