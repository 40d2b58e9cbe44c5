"""The ingestion seam: how a picture becomes a stored image.

`Ingestion` is what the routes know. `embedded` hashes and commits here and now, `queued` hands the work to
Celery workers. The composition root chooses; nothing else may ask.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.ingestion.picture import NewImage
from iqdb_core.errors import IqdbError
from iqdb_core.jobs.model import Job, JobPage, JobState
from iqdb_core.model import Signature

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """An image that is committed and findable."""

    image_id: int
    signature: Signature
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """An image that is accepted for good and will be worked on."""

    image_id: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An image of a batch that could not be added; the others are not touched by it."""

    image_id: int
    error: IqdbError


Outcome = Added | Queued | Failed


def failed(image_id: int, error: Exception) -> Failed:
    """Return the outcome of an image of a batch; what nobody foresaw is logged, and spoils it alone, too."""
    if isinstance(error, IqdbError):
        return Failed(image_id, error)
    log.error("image %d of a batch failed", image_id, exc_info=error, extra={"action": "bug"})
    return Failed(image_id, IqdbError("internal error"))


class Ingestion(Protocol):
    """Everything that changes the set of images."""

    async def check_capacity(self, body_bytes: int, *, wait: bool) -> None:
        """Raise QueueFull if a body of this length would be refused; called before the body is read."""

    async def add(self, new: NewImage, *, wait: bool) -> Added | Queued:
        """Add or replace one image; raises why it fails, `ImageExists` where it was to replace none.

        With `wait` it is findable on return, unless it is `Queued` because that takes too long.
        """

    async def add_many(self, news: Sequence[NewImage], *, wait: bool) -> list[Outcome]:
        """Add or replace many; one outcome each, in order. Raises only what concerns them all."""

    async def delete(self, image_ids: Sequence[int]) -> list[Queued]:
        """Delete images; ids that are unknown are no error. What raises may have deleted a part of them.

        Not findable any more on return, but for those that are returned because that takes too long.
        """

    async def job(self, job_id: str) -> Job:
        """Return one job; raises UnknownJob."""

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """Return a page of jobs."""

    async def status(self) -> dict[str, Any]:
        """Return what `GET /status` says of ingestion, and of the store that it writes to."""
