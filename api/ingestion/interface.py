"""The ingestion seam: how a picture becomes a stored image.

Routes know only `Ingestion`. `embedded` hashes and commits within this process, `queued` hands the work to
Celery workers. The composition root chooses; nothing else may ask which one it is.
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
    """An image that is durably accepted and waits for a worker."""

    image_id: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An image of a batch that could not be added; the others are not affected."""

    image_id: int
    error: IqdbError


Outcome = Added | Queued | Failed


def failed(image_id: int, error: Exception) -> Failed:
    """Return the outcome of a failed image of a batch; an unexpected error is logged, and fails it alone."""
    if isinstance(error, IqdbError):
        return Failed(image_id, error)
    log.error("image %d of a batch failed", image_id, exc_info=error, extra={"action": "bug"})
    return Failed(image_id, IqdbError("internal error"))


class Ingestion(Protocol):
    """Everything that changes the set of images."""

    async def check_capacity(self, body_bytes: int, *, wait: bool) -> None:
        """Raise QueueFull if a body of this length would be refused; called before the body is read."""

    async def add(self, new: NewImage, *, wait: bool) -> Added | Queued:
        """Add or replace one image; raises the reason of a failure, `ImageExists` if it must not replace one.

        With `wait` it is findable on return; if that takes too long, `Queued` is returned.
        """

    async def add_many(self, news: Sequence[NewImage], *, wait: bool) -> list[Outcome]:
        """Add or replace many; return an outcome for each, in order. Raises only errors that affect all."""

    async def delete(self, image_ids: Sequence[int]) -> list[Queued]:
        """Delete images; unknown ids are not an error. If it raises, some of them may be deleted already.

        On return they cannot be found any more, except for those that are returned: these take too long.
        """

    async def job(self, job_id: str) -> Job:
        """Return one job; raises UnknownJob."""

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """Return a page of jobs."""

    async def status(self) -> dict[str, Any]:
        """Return what `GET /status` shows of ingestion and of its store."""
