"""What `/openapi.json` says of `/status`, `/live`, `/ready` and `/metrics`."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.terms import done, json_of, object_of
from iqdb_core.following import FollowerState

_TEXT: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer"}

STATUS: Final[dict[str, Any]] = {
    "responses": done(
        json_of(
            {
                "type": "object",
                "properties": {
                    "images": _INTEGER,
                    **dict.fromkeys(("applied_seq", "head_seq", "lag_seq"), _INTEGER),
                    "follower": {"enum": [state.value for state in FollowerState]},
                    "maintenance": {"type": "object", "properties": {"state": _TEXT, "message": _TEXT}},
                    "checkpoint": {
                        "type": "object",
                        "properties": {"seq": _INTEGER, "age_s": _INTEGER, "refused": _TEXT},
                    },
                    **dict.fromkeys(("store_error", "disk_error", "write_error", "restarted"), _TEXT),
                    "nodes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"url": _TEXT, "state": _TEXT},
                            "additionalProperties": True,
                        },
                        "description": "What each query node says of itself",
                    },
                    "store_id": _TEXT,
                    "queue": {
                        "type": "object",
                        "properties": {
                            "state": {"enum": ["ready", "refuses", "away"]},
                            "message": _TEXT,
                            **dict.fromkeys(
                                ("queued", "interactive", "running", "failed", "bytes"), _INTEGER
                            ),
                            "oldest_s": {"type": "number"},
                        },
                    },
                    "workers": {
                        "type": "object",
                        "additionalProperties": {"type": "number"},
                        "description": "Seconds since each was last heard of, by name",
                    },
                    "version": _TEXT,
                    "uptime_s": _INTEGER,
                },
            }
        )
    )
}
LIVE: Final[dict[str, Any]] = {"responses": done(json_of(object_of({"live": {"const": True}})))}
READY: Final[dict[str, Any]] = {"responses": done(json_of(object_of({"ready": {"const": True}})))}
METRICS: Final[dict[str, Any]] = {"responses": done({"text/plain": {"schema": _TEXT}})}
