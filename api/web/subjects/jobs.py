"""Jobs: what became of images that were accepted and not waited for."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.web.answers import json_response
from api.web.document.jobs import JOB, JOBS
from api.web.errors import BadRequest
from api.web.reading.parameters import query_parameters
from api.web.reading.requests import MAX_ID_DIGITS
from api.web.reading.window import MAX_LIMIT
from api.web.services import services_of
from iqdb_core import codec
from iqdb_core.jobs.model import Job, JobState

router: Final = APIRouter()

DEFAULT_JOBS: Final = 100


@router.get("/jobs/{job_id}", openapi_extra=JOB)
async def get_job(request: Request, job_id: str) -> Response:
    """Return one job: its state, and its hash or its reason once it has ended."""
    return json_response(_job_body(await services_of(request).ingestion.job(job_id)))


@router.get("/jobs", openapi_extra=JOBS)
async def list_jobs(request: Request) -> Response:
    """Return a page of jobs, by state if one is given; `next` is the cursor of the page after it."""
    params = query_parameters(request)
    state = params.text("state")
    if state is not None and state not in set(JobState):
        raise BadRequest(f"state must be one of {', '.join(JobState)}")
    cursor = params.text("cursor")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_ID_DIGITS):
        raise BadRequest("cursor must be the 'next' of the previous page")
    limit = params.integer("limit", 1, MAX_LIMIT) or DEFAULT_JOBS
    page = await services_of(request).ingestion.jobs(
        None if state is None else JobState(state), cursor, limit
    )
    return json_response({"jobs": [_job_body(job) for job in page.jobs], "next": page.next_cursor})


def _job_body(job: Job) -> dict[str, Any]:
    body: dict[str, Any] = {"job_id": job.job_id, "post_id": job.image_id, "state": str(job.state)}
    if job.reason is not None:
        body["reason"] = job.reason
    if job.signature is not None:
        body["hash"] = codec.to_hash(job.signature)
    if job.is_damaged:
        body["damaged"] = True
    return body
