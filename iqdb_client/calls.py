"""The API as values: each function returns what to send and how to read the answer. Does no I/O.

Both clients run the same calls, so that there is one place that knows the paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote

from iqdb_client.errors import ClientError, Late, NotFound, Refused, Unauthorized
from iqdb_client.values import (
    Change,
    ChangePage,
    Image,
    Job,
    JobPage,
    Listed,
    Match,
    Matches,
    Outcome,
    Picture,
    Question,
    Status,
)

if TYPE_CHECKING:
    from httpx import Timeout

T = TypeVar("T")
Files = list[tuple[str, tuple[str | None, bytes]]]
"""Parts of a form: name, filename (None for a plain value) and bytes."""

MAX_BATCH: Final = 1000
"""Images of one request."""
EXPORT_SILENCE_S: Final = 3600.0
"""A server sends a file once it is whole: five million images took it 67 seconds on a busy machine."""
_NO_HASH: Final = re.compile(r"\W", re.ASCII)
_JSON_CHARACTERS: Final = 256 * 1024
"""Of sources in one JSON body: with 1,000 hashes they fit into the server's 4 MiB, however escaped."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the way to read its answer.

    Parameters
    ----------
    method, path : str
    read : callable of (parsed JSON body)
    parameters : mapping
        The query string.
    json : object or None
        The body, as JSON.
    files : callable or None
        Makes the parts of a multipart body; called anew for each try, so that files are read once more and
        not held in between.
    complete : callable of (what was read, headers) or None
        Adds what the answer's headers say.
    silence_s : float
        How long the server may send nothing, if that is longer than the client allows other calls.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    parameters: Mapping[str, str] = field(default_factory=dict)
    json: object | None = None
    files: Callable[[], Files] | None = None
    complete: Callable[[T, Mapping[str, str]], None] | None = None
    silence_s: float = 0.0

    def content(self, usual: Timeout) -> dict[str, Any]:
        """Return what httpx is to send, and how long it is to wait; reads the files, if there are some."""
        content: dict[str, Any] = {"params": dict(self.parameters)}
        if self.files is not None:
            content["files"] = self.files()
        if self.json is not None:
            content["json"] = self.json
        if self.silence_s and usual.read is not None:
            silence_s = max(usual.read, self.silence_s)
            content["timeout"] = (usual.connect, silence_s, usual.write, usual.pool)
        return content


class Outcomes(list[Outcome]):
    """What became of the images of one request.

    Attributes
    ----------
    retry_after : str or None
        When the server wants to be asked again for those that it could not take: the header of that name.
    """

    retry_after: str | None = None


def headers(token: str | None) -> dict[str, bytes]:
    """Return what goes with every call; raises ClientError for a token that no server can have."""
    if not token:
        return {}
    if " " in token or not token.isprintable():
        # Trying to send it would show it in the error's message.
        raise ClientError("the token must be text in UTF-8, without blanks and control characters")
    # Header text is bytes; the server reads what is beyond ASCII as UTF-8.
    return {"Authorization": f"Bearer {token}".encode()}


def add(
    image_id: int, picture: Picture, *, source: str | None = None, if_absent: bool = False
) -> Call[Image]:
    """Add or replace one image, and wait until it can be found."""
    _check(picture)
    parameters = _replacing(if_absent)
    if isinstance(picture, str):
        parameters["hash"] = picture
    files = _form(picture, {} if source is None else {"source": source})
    return Call("POST", f"/images/{image_id}", _added, parameters, files=files)


def add_later(image_id: int, picture: Picture, *, source: str | None = None) -> Call[Outcome]:
    """Add or replace one image without waiting: it is safe when this is answered, and found later."""
    waited = add(image_id, picture, source=source)

    def read(body: Mapping[str, Any]) -> Outcome:
        status = HTTPStatus.ACCEPTED if "job_id" in body else HTTPStatus.OK
        return Outcome.from_body({**body, "status": int(status)})

    return Call("POST", waited.path, read, {**waited.parameters, "wait": "false"}, files=waited.files)


def add_many(
    pictures: Mapping[int, Picture],
    *,
    sources: Mapping[int, str] | None = None,
    wait: bool = True,
    if_absent: bool = False,
) -> Call[Outcomes]:
    """Add or replace up to 1,000 images, each with its own outcome."""
    for picture in pictures.values():
        _check(picture)
    sources = sources or {}

    def parts() -> Files:
        files: Files = [(str(image_id), _part(picture)) for image_id, picture in pictures.items()]
        return files + [
            (f"{image_id}.source", (None, source.encode()))
            for image_id, source in sources.items()
            if image_id in pictures
        ]

    def read(body: Mapping[str, Any]) -> Outcomes:
        return Outcomes(Outcome.from_body(each) for each in body["images"])

    parameters = ({} if wait else {"wait": "false"}) | _replacing(if_absent)
    characters = sum(len(sources.get(image_id, "")) for image_id in pictures)
    if characters <= _JSON_CHARACTERS and all(isinstance(picture, str) for picture in pictures.values()):
        # The server reads it a hundred times faster than a form of as many parts.
        images = [
            {"post_id": image_id, "hash": picture, "source": sources.get(image_id)}
            for image_id, picture in pictures.items()
        ]
        return Call("POST", "/images", read, parameters, json={"images": images}, complete=_note_retry_after)
    return Call("POST", "/images", read, parameters, files=parts, complete=_note_retry_after)


def get(image_id: int) -> Call[Image]:
    """Return one image; raises NotFound."""
    return Call("GET", f"/images/{image_id}", Image.from_body)


def delete(image_ids: Sequence[int]) -> list[Call[list[str]]]:
    """Return calls that each delete up to 1,000 images, and return the ids of jobs that are not done yet.

    Unknown ids are no error.
    """
    return [
        Call("DELETE", "/images", _jobs_of, json=list(image_ids[start : start + MAX_BATCH]))
        for start in range(0, len(image_ids), MAX_BATCH)
    ]


def query(picture: Picture | int, question: Question) -> Call[Matches]:
    """Return the images most like a picture, or like a known image, best first."""
    parameters = question.parameters()
    _check(picture)
    if isinstance(picture, int):
        parameters["post_id"] = str(picture)
    elif isinstance(picture, str):
        parameters["hash"] = picture
    exclude = parameters.pop("exclude", None)
    files = _form(picture, {} if exclude is None else {"exclude": exclude})
    return Call(
        "POST",
        "/query",
        lambda body: Matches(map(Match.from_body, body)),
        parameters,
        files=files,
        complete=_note_damage,
    )


def status() -> Call[Status]:
    """Return the number of images and how the server is."""
    return Call("GET", "/status", lambda body: Status(body["images"], body))


def job(job_id: str) -> Call[Job]:
    """Return one job; raises NotFound."""
    # An id of two dots would lead to another path.
    name = quote(job_id, safe="").replace(".", "%2E")
    return Call("GET", f"/jobs/{name}", Job.from_body)


def jobs(state: str | None, cursor: str | None, limit: int) -> Call[JobPage]:
    """Return a page of jobs."""
    parameters = {"limit": str(limit)}
    if state is not None:
        parameters["state"] = state
    if cursor is not None:
        parameters["cursor"] = cursor
    return Call(
        "GET",
        "/jobs",
        lambda body: JobPage(tuple(Job.from_body(each) for each in body["jobs"]), body["next"]),
        parameters,
    )


def images_after(after: int | None, limit: int) -> Call[list[Listed]]:
    """Return known images above `after`, ascending by id."""
    parameters = {"limit": str(limit)}
    if after is not None:
        parameters["after"] = str(after)
    return Call(
        "GET", "/images", lambda body: [Listed.from_body(each) for each in body["images"]], parameters
    )


def missing(image_ids: Sequence[int]) -> Call[list[int]]:
    """Return which of these ids the server does not know."""
    return Call(
        "POST", "/images/missing", lambda body: list(body["missing"]), json={"post_ids": list(image_ids)}
    )


def changes(since: int | str, limit: int, wait_s: int = 0) -> Call[ChangePage]:
    """Return the changes after a cursor, in commit order; those above a bare seq unchecked."""
    return Call(
        "GET",
        "/changes",
        lambda body: ChangePage(tuple(Change.from_body(each) for each in body["changes"]), body["next"]),
        {"since": str(since), "limit": str(limit), "wait_s": str(wait_s)},
    )


def duplicates(after: int, min_likelihood: float | None) -> Call[Mapping[str, Any]]:
    """Return a page of groups of duplicates, as the server gives it: `groups`, `looked_at`, `next`."""
    parameters = {} if after < 0 else {"after": str(after)}
    if min_likelihood is not None:
        parameters["min_likelihood"] = str(min_likelihood)
    return Call("GET", "/duplicates", lambda body: {**body, "groups": body["groups"]}, parameters)


def export(form: str) -> Call[None]:
    """Ask for all images of one moment; the answer is read as it comes."""
    silence_s = EXPORT_SILENCE_S if form == "sqlite" else 0.0
    return Call("GET", "/export", lambda _: None, {"format": form}, silence_s=silence_s)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ClientError:
    """Return the error of an unsuccessful answer."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        # A proxy's page, for example.
        elsewhere = f"; it sends to {headers['location']}" if "location" in headers else ""
        message = f"the server answered {status} without a reason{elsewhere}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(status, message)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Unauthorized(status, message)
    return Refused(status, message)


def _check(picture: object) -> None:
    """Raise ClientError for what is no picture: the name of a file as text, or a file that is open."""
    if isinstance(picture, str) and _NO_HASH.search(picture):
        raise ClientError(f"text must be a hash, and {picture[:100]!r} is not one; give a file as a Path")
    if not isinstance(picture, (str, bytes, Path, int)):
        raise ClientError(f"a picture is a Path, bytes or a hash, and no {type(picture).__name__}")


def _replacing(if_absent: bool) -> dict[str, str]:
    """Return the parameter that says whether an image may be replaced."""
    return {"if_absent": "true"} if if_absent else {}


def _form(picture: Picture | int, long: Mapping[str, str]) -> Callable[[], Files] | None:
    """Return what makes the body: a file, and what may be longer than a proxy lets a URL be."""
    file = picture if isinstance(picture, (Path, bytes)) else None
    if file is None and not long:
        return None

    def parts() -> Files:
        files = [] if file is None else [("file", _part(file))]
        return files + [(name, (None, value.encode())) for name, value in long.items()]

    return parts


def _part(picture: Picture) -> tuple[str | None, bytes]:
    """Return a picture's part of the form: filename and bytes; a hash has no filename."""
    match picture:
        case Path():
            # A file's name is bytes, and not always text; "replace" writes question marks for the rest.
            return picture.name.encode(errors="replace").decode(), picture.read_bytes()
        case bytes():
            return "picture", picture
        case str():
            return None, picture.encode()


def _added(body: Mapping[str, Any]) -> Image:
    if "job_id" in body:
        raise Late([body["job_id"]])
    return Image.from_body(body)


def _note_damage(matches: Matches, headers: Mapping[str, str]) -> None:
    matches.is_damaged = headers.get("X-Query-Damaged") == "true"


def _note_retry_after(outcomes: Outcomes, headers: Mapping[str, str]) -> None:
    outcomes.retry_after = headers.get("Retry-After")


def _jobs_of(body: Mapping[str, Any]) -> list[str]:
    """Return the jobs of deletes that are not done yet, after checking that it is an answer to them."""
    body["post_ids"]
    return [job["job_id"] for job in body.get("jobs", ())]
