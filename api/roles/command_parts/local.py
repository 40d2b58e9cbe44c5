"""Commands on a database of this machine. A server that has the same file open follows by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from api.roles.command_parts.arithmetic import Arithmetic
from api.roles.command_parts.content import content_of
from api.roles.command_parts.reasons import naming_picture, reason_of
from api.roles.command_parts.show import say
from api.roles.command_parts.target import IS_DAMAGED, Added, Entry
from api.roles.progress import ProgressLine
from api.search.duplicates import PAGE_IMAGES, DuplicatesPage, DuplicatesWanted, find_duplicates
from iqdb_client import Image, Match, Part, Picture, Question
from iqdb_core import codec
from iqdb_core.clock import RevisionClock
from iqdb_core.errors import ImageError, UnknownImage, WrongUsage
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex, compare
from iqdb_core.model import Copy, QuerySignature, Write
from iqdb_core.signature import DecodeLimits, ReadImage, ReadQuery, read_image, read_query
from iqdb_core.signature import turned as turned_copies
from iqdb_core.signature.turns import Turn
from iqdb_core.store import SignatureStore, open_store

DEFAULT_LIMIT: Final = 10
LISTED: Final = 10_000


class DatabaseTarget:
    """A database as a `Target`.

    Parameters
    ----------
    url : str
        A file or a database URL; see `open_store`.
    max_pixels : int
        Limit of pictures that are decoded.
    progress : callable of (done, total)
        Is told while a file of IQDB is taken over.
    """

    def __init__(self, url: str, *, max_pixels: int, progress: Callable[[int, int], None]) -> None:
        self.name = url
        self._limits = DecodeLimits(max_pixels=max_pixels)
        self._stack = ExitStack()
        self._arithmetic = self._stack.enter_context(Arithmetic())
        self._store: SignatureStore = open_store(url, progress=progress)
        self._stack.callback(self._store.close)
        self._clock = RevisionClock(lambda: time.time_ns() // 1000, self._store.max_revision())

    @property
    def store(self) -> SignatureStore:
        """The open store."""
        return self._store

    def add(self, entries: Sequence[Entry]) -> list[Added]:
        """See `Target`."""
        outcomes: list[Added] = []
        writes: dict[int, Write] = {}
        for place, entry in enumerate(entries):
            # Numbered before it is read: an add by someone else meanwhile is the newer one.
            revision = self._clock.next()
            try:
                read = self._read(entry.picture)
            except (OSError, ImageError) as error:
                outcomes.append(Added(reason_of(error, self._limits.max_pixels)))
            else:
                outcomes.append(Added(is_damaged=read.is_damaged))
                writes[place] = Write(entry.image_id, revision, read.signature, entry.source, entry.if_absent)
        for place in self._apply(writes):
            outcomes[place] = Added(is_taken=True)
        return outcomes

    def _apply(self, writes: Mapping[int, Write]) -> list[int]:
        """Apply numbered writes, and return the numbers of those whose ids are taken.

        Those that another process has outrun get a new revision.
        """
        taken = []
        while writes:
            outrun = {}
            outcomes = self._store.apply(list(writes.values()))
            for (place, write), outcome in zip(writes.items(), outcomes, strict=True):
                if self._clock.is_outrun(write.revision, outcome):
                    outrun[place] = replace(write, revision=self._clock.next())
                elif outcome.is_taken:
                    taken.append(place)
            writes = outrun
        return taken

    def missing(self, image_ids: Sequence[int]) -> set[int]:
        """See `Target`."""
        return set(self._store.missing(image_ids))

    def there(self, image_ids: Sequence[int]) -> dict[int, str | None]:
        """See `Target`."""
        gone = self.missing(image_ids)
        found = [image_id for image_id in image_ids if image_id not in gone]
        sources = self._store.sources_of(found)
        return {image_id: sources.get(image_id) for image_id in found}

    def listed(self, after: int = -1) -> Iterator[tuple[int, str | None]]:
        """See `Target`."""
        while page := self._store.ids_after(after, LISTED):
            for image in page:
                yield image.image_id, image.source
            after = page[-1].image_id

    def is_same(self, image_id: int, picture: Picture) -> bool:
        """See `Target`."""
        try:
            known = self._store.get(image_id)
            return self._read(picture).signature == known
        except (OSError, ImageError, UnknownImage):
            return False

    def search(self, picture: Picture | int, question: Question) -> list[Match]:
        """See `Target`."""
        signatures, excluded = self._query(picture, question.turns)
        copies = self._index.find_copies(
            signatures,
            limit=question.limit or DEFAULT_LIMIT,
            offset=question.offset or 0,
            min_score=question.min_score,
            min_likelihood=question.min_likelihood,
            min_detail=question.min_detail,
            exclude={*question.exclude, *excluded},
        )
        sources = self._store.sources_of([match.image_id for match in copies.matches])
        return [_match(match, sources.get(match.image_id)) for match in copies.matches]

    def _query(self, picture: Picture | int, turns: str | None) -> tuple[list[QuerySignature], list[int]]:
        """Return the signatures to search for, and the ids that would only find themselves."""
        if isinstance(picture, int):
            return turned_copies([QuerySignature(self._store.get(picture))], turns), [picture]
        with naming_picture("the picture", self._limits.max_pixels):
            read = query_of(picture, turns, self._limits)
        if read.is_damaged:
            say(f"the picture {IS_DAMAGED}")
        return read.signatures, []

    def duplicates(self, after: int, min_likelihood: float) -> DuplicatesPage:
        """See `Target`."""
        if after < 0:
            self._arithmetic.expect_searches(self._store.live_count())
        ids = [one.image_id for one in self._store.ids_after(after, PAGE_IMAGES)]
        return find_duplicates(self._index, DuplicatesWanted(after, min_likelihood), ids)

    def images(self) -> Iterator[Image]:
        """See `Target`."""
        for image in self._store.export():
            yield Image(image.image_id, codec.to_hash(image.signature), image.source)

    def write_iqdb_file(self, path: Path, progress: Callable[[int, int], None]) -> int:
        """See `Target`."""
        return self._store.export_iqdb_file(path, progress)

    def get(self, image_id: int) -> Image:
        """See `Target`."""
        signature = self._store.get(image_id)
        source = self._store.sources_of([image_id]).get(image_id)
        return Image(image_id, codec.to_hash(signature), source)

    def remove(self, image_ids: Sequence[int]) -> None:
        """See `Target`."""
        self._apply({image_id: Write(image_id, self._clock.next(), None) for image_id in image_ids})

    def status(self) -> dict[str, Any]:
        """See `Target`."""
        store = self._store
        return {"images": store.live_count(), "head_seq": store.head_seq(), "store_id": store.store_id}

    def _read(self, picture: Picture) -> ReadImage:
        """Return the signature of a whole picture, and whether it is damaged."""
        content = content_of(picture)
        if isinstance(content, str):
            return ReadImage(codec.from_hash(content), is_damaged=False)
        with self._arithmetic.decoding():
            return read_image(content, limits=self._limits)

    def close(self) -> None:
        """See `Target`."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _index(self) -> ImageIndex:
        """An index in memory, up to date with the store."""
        self._arithmetic.prepare_index(self._store.head_seq())
        index = ImageIndex.open(None, store_id=self._store.store_id)
        self._stack.callback(index.close)
        with ProgressLine("reading the database") as line:
            Follower(self._store, index, cursor=0, poll_s=1.0).catch_up(line)
        return index


def query_of(picture: Picture, turns: str | None, limits: DecodeLimits) -> ReadQuery:
    """Return what a search for copies of a picture looks for."""
    content = content_of(picture)
    if isinstance(content, str):
        return ReadQuery(turned_copies([QuerySignature(codec.from_hash(content))], turns), is_damaged=False)
    return read_query(content, turns=turns, limits=limits)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How likely two pictures show the same, whichever of them was named first.

    Parameters
    ----------
    likelihood, score, detail
        As of a match; the detail is that of the second picture.
    hash : str
        Of the second picture.
    turn : str
        What was done to the first one.
    part : Part or None
        Which part of one of them the whole other one is, in its pixels.
    part_of : str or None
        "first" or "second": of which.
    """

    likelihood: float
    score: float
    hash: str
    turn: str
    part: Part | None
    part_of: str | None
    detail: float


def compared(first: Picture | int, second: Picture | int, *, max_pixels: int) -> Comparison:
    """Search for either picture, its parts and turns, where there is only the other one; tell the likelier.

    Raises
    ------
    WrongUsage
        An id was given, which no database is asked about.
    ConfigError
        One of them cannot be read.
    """
    pictures = {"first": _no_id(first), "second": _no_id(second)}
    with Arithmetic():
        return _compared(pictures, DecodeLimits(max_pixels=max_pixels))


def _no_id(picture: Picture | int) -> Picture:
    if isinstance(picture, int):
        raise WrongUsage(
            f"there is no file {picture}, and 'compare' takes no ids;"
            " 'iqdb search PICTURE --all' tells how like a picture the known images are"
        )
    return picture


def _compared(pictures: Mapping[str, Picture], limits: DecodeLimits) -> Comparison:
    both = []
    for name, picture in pictures.items():
        with naming_picture(f"the {name} picture", limits.max_pixels):
            read = query_of(picture, "all", limits)
        if read.is_damaged:
            say(f"the {name} picture {IS_DAMAGED}")
        both.append(read.signatures)
    # A part is looked for in what it is a part of, and nobody knows beforehand which of them that is.
    there = compare(both[0], both[1][0].signature)
    back = compare(both[1], both[0][0].signature)
    is_back = back.likelihood > there.likelihood
    best = back if is_back else there
    part_of = "second" if is_back else "first"
    return Comparison(
        likelihood=best.likelihood,
        score=best.score,
        hash=codec.to_hash(there.signature),
        turn=str(Turn(back.turn).inverse) if is_back else there.turn,
        part=_part(best),
        part_of=None if best.part is None else part_of,
        detail=there.detail,
    )


def _part(copy: Copy) -> Part | None:
    part = copy.part
    return None if part is None else Part(part.x, part.y, part.width, part.height)


def _match(copy: Copy, source: str | None) -> Match:
    """Return a match as the client knows it."""
    return Match(
        copy.image_id,
        copy.score,
        codec.to_hash(copy.signature),
        source,
        copy.likelihood,
        copy.turn,
        _part(copy),
        copy.detail,
    )
