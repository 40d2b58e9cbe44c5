"""What `/openapi.json` says of jobs."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.terms import DAMAGED, ID, done, json_of, object_of, parameter
from iqdb_core.jobs.model import JobState

_STATES: Final = [state.value for state in JobState]
_JOB: Final = object_of(
    {"job_id": {"type": "string"}, "post_id": ID, "state": {"enum": _STATES}},
    {
        "reason": {"type": "string", "description": "Why it failed"},
        "hash": {"type": "string", "description": "Of a job that is done"},
        "damaged": DAMAGED,
    },
)

JOB: Final[dict[str, Any]] = {"responses": done(json_of(_JOB))}
JOBS: Final[dict[str, Any]] = {
    "parameters": [
        parameter("state", {"enum": [*_STATES, ""]}),
        parameter("cursor", {"type": "string", "pattern": "^[0-9]{0,19}$"}),
        parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    ],
    "responses": done(
        json_of(object_of({"jobs": {"type": "array", "items": _JOB}, "next": {"type": ["string", "null"]}}))
    ),
}
