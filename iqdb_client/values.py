"""What goes in and what comes out: pictures, questions, images, matches, jobs. Frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Picture = Path | bytes | str
"""A picture as a file, as the bytes of one, or as its hash."""


@dataclass(frozen=True, slots=True)
class Question:
    """How to search; the server decides what is None.

    Parameters
    ----------
    limit : int or None
        Most matches, 1..1000; the server's default is 10.
    min_score : float or None
    find : str or None
        "copies": look for mirrored copies too, and rank by likelihood. Of a file (not a hash or an id) also
        for its parts, and for what it may be cut out of.
    turns : str or None
        "none", "mirror" or "all", with ",negative" behind it for inverted copies, too.
    mode : str or None
        "sketch" for painted queries.
    min_likelihood : float or None
        0..1; needs find="copies" or turns.
    min_detail : float or None
        Bits; needs find="copies" or turns.
    offset : int or None
        Matches skipped before the first, at most 10,000. Pages of copies are parts of one list if they all
        have the same `limit`.
    exclude : tuple of int
        Ids to leave out.
    """

    limit: int | None = None
    min_score: float | None = None
    find: str | None = None
    turns: str | None = None
    mode: str | None = None
    min_likelihood: float | None = None
    min_detail: float | None = None
    offset: int | None = None
    exclude: tuple[int, ...] = ()

    def parameters(self) -> dict[str, str]:
        """Return what is set, as parameters of a request."""
        names = ("limit", "min_score", "find", "turns", "mode", "min_likelihood", "min_detail", "offset")
        given = {name: getattr(self, name) for name in names}
        parameters = {name: str(value) for name, value in given.items() if value is not None}
        if self.exclude:
            parameters["exclude"] = ",".join(map(str, self.exclude))
        return parameters


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of the query picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Image:
    """One known image.

    Parameters
    ----------
    post_id : int
    hash : str
        `iqdb_` and 528 hexadecimal digits.
    source : str or None
        Name, path or page, where one was given.
    is_damaged : bool
        The picture was damaged and read as far as it goes; told in answers to adding only.
    """

    post_id: int
    hash: str
    source: str | None = None
    is_damaged: bool = False

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Image:
        """Read one from an answer."""
        return cls(body["post_id"], body["hash"], body.get("source"), bool(body.get("damaged", False)))


@dataclass(frozen=True, slots=True)
class Listed:
    """An image in a list of all: its id, and where it came from, if that is known."""

    post_id: int
    source: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Listed:
        """Read one from an answer."""
        return cls(body["post_id"], body.get("source"))


@dataclass(frozen=True, slots=True)
class Match:
    """One answer to a query.

    Parameters
    ----------
    post_id : int
    score : float
        At most 100; higher is more alike.
    hash : str
    source : str or None
    likelihood : float or None
        0..1 that it shows the same picture; with find="copies" only, as all below.
    turn : str or None
        How the picture was turned to match, "none" where it was not.
    part : Part or None
        Which part of the query picture matched.
    detail : float or None
        Bits of evidence that the match's signature can carry at most.
    """

    post_id: int
    score: float
    hash: str
    source: str | None = None
    likelihood: float | None = None
    turn: str | None = None
    part: Part | None = None
    detail: float | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Match:
        """Read one from an answer."""
        part = body.get("part")
        return cls(
            body["post_id"],
            float(body["score"]),
            body["hash"],
            body.get("source"),
            body.get("likelihood"),
            body.get("turn"),
            None if part is None else Part(part["x"], part["y"], part["width"], part["height"]),
            body.get("detail"),
        )


class Matches(list[Match]):
    """What a query found, best first.

    Attributes
    ----------
    is_damaged : bool
        A part of the query's picture was missing, so this is about what was there of it.
    """

    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Work that was accepted and not waited for.

    Parameters
    ----------
    job_id : str
    post_id : int
    state : str
        "queued", "running", "done" or "failed".
    reason : str or None
        Why it failed.
    hash : str or None
        Once it is done.
    """

    job_id: str
    post_id: int
    state: str
    reason: str | None = None
    hash: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read one from an answer."""
        return cls(body["job_id"], body["post_id"], body["state"], body.get("reason"), body.get("hash"))


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, and the cursor of those after them (None: there are none)."""

    jobs: tuple[Job, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image of a batch: exactly one of `image`, `job_id` and `reason` is set.

    Parameters
    ----------
    post_id : int
    status : int
        What a request of its own would have been answered.
    image : Image or None
        It is committed and findable.
    job_id : str or None
        It is accepted; follow the job.
    reason : str or None
        It was refused, and why.
    """

    post_id: int
    status: int
    image: Image | None = None
    job_id: str | None = None
    reason: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Outcome:
        """Read one from an answer."""
        image = Image.from_body(body) if "hash" in body else None
        return cls(body["post_id"], body["status"], image, body.get("job_id"), body.get("message"))


@dataclass(frozen=True, slots=True)
class Change:
    """The latest change of one image.

    Parameters
    ----------
    seq : int
        Number of the change; their order is the order of commits.
    post_id : int
    hash : str or None
        None: it was deleted.
    source : str or None
        Name, path or page, where one was given.
    """

    seq: int
    post_id: int
    hash: str | None
    source: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Change:
        """Read one from an answer."""
        return cls(body["seq"], body["post_id"], body.get("hash"), body.get("source"))


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes in commit order, and the cursor of those after them, also where there are none yet."""

    changes: tuple[Change, ...]
    next: str


@dataclass(frozen=True, slots=True)
class Status:
    """What `GET /status` tells.

    Parameters
    ----------
    images : int
        Live images, exactly.
    details : mapping
        Everything, as the server said it.
    """

    images: int
    details: Mapping[str, Any] = field(default_factory=dict)
