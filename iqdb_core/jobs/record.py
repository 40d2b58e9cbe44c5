"""A job's record as Redis keeps it, turned into what a client sees. Called by `ledger` alone."""

from __future__ import annotations

from typing import Final

from iqdb_core import codec
from iqdb_core.jobs.model import Job, JobKind, JobState

MICROSECONDS: Final = 1_000_000
"""Per second; all times in Redis are whole microseconds since 1970 by its own clock."""


def to_job(job_id: str, answer: dict[bytes, bytes]) -> Job:
    """Return the job whose hash in Redis is `answer`, which must not be empty."""
    fields = {name.decode(): value for name, value in answer.items()}
    signature = fields.get("signature")
    reason = fields.get("reason")
    seq = fields.get("seq")
    return Job(
        job_id=job_id,
        image_id=int(fields["image_id"]),
        kind=JobKind(fields["kind"].decode()),
        state=JobState(fields["state"].decode()),
        revision=int(fields["revision"]),
        attempts=int(fields.get("attempts", b"0")),
        reason=reason.decode() if reason is not None else None,
        error=fields.get("error", b"").decode(),
        signature=codec.from_bytes(signature) if signature else None,
        seq=int(seq) if seq else None,
        created_s=int(fields["created"]) / MICROSECONDS,
        updated_s=int(fields["updated"]) / MICROSECONDS,
    )
