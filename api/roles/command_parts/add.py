"""`iqdb add`: many pictures into a database or a server, in parallel; may be interrupted and run again."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from api.roles.command_parts.gather import Item
from api.roles.command_parts.notebook import Notebook
from api.roles.command_parts.places import Placed, Places
from api.roles.command_parts.target import Added, Entry, Target

CHUNK: Final = 16
"""Pictures that one thread adds at once, in one transaction or one request."""
HASHES: Final = 512
"""The same of hashes, which need no decoding."""
HELD_BYTES: Final = 8 * 1024 * 1024
"""Pictures of an archive are in memory until they are added: a chunk that has so many bytes ends."""
MOST_TIMES: Final = 12
"""How often a picture gets another id because somebody else has got the one before."""
IN_USE: Final = "the id {} was given to a picture added before it; add pictures with ids of their own first"
OUTRUN: Final = "each id that it was given was taken by others meanwhile; run the same command again"


@dataclass(slots=True)
class Tally:
    """What has become of the pictures so far; `damaged` were added, as far as they can be read."""

    added: int = 0
    unchanged: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Pictures looked at."""
        return self.added + self.unchanged + len(self.refused)


Progress = Callable[[Tally], None]
"""Is told the tally after every chunk."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Pictures under way; `times` is how often others have taken their ids."""

    placed: Placed
    result: Future[list[Added]]
    times: int


def add_all(
    items: Iterable[Item],
    target: Target,
    notebook: Notebook,
    tally: Tally,
    *,
    threads: int,
    progress: Progress,
    stopping: threading.Event,
) -> None:
    """Add every item that is not there unchanged.

    Parameters
    ----------
    items : iterable of Item
        Read as it goes; its errors end the run after what is in hand.
    target : Target
    notebook : Notebook
        Used from this thread only.
    tally : Tally
        Filled in as it goes: how many were added, and which were refused and why.
    threads : int
        Chunks under way at once, at least 1.
    progress : callable of (Tally)
    stopping : Event
        When set, what is in hand is finished and the rest is left.

    Raises
    ------
    IqdbError, ClientError
        The target refuses or fails as a whole. What was added before is in, and known to the notebook.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="add") as pool:
        run = _Run(target, notebook, tally, pool, stopping)
        try:
            for chunk in _chunks(items, run):
                if stopping.is_set():
                    break
                run.begin(chunk)
                while len(run.under_way) > threads:
                    run.finish_oldest()
                progress(run.tally)
        finally:
            # Also when something failed: what the other threads have added is written down.
            run.finish_all(progress)


class _Run:
    """What one call of `add_all` has in hand."""

    def __init__(
        self,
        target: Target,
        notebook: Notebook,
        tally: Tally,
        pool: ThreadPoolExecutor,
        stopping: threading.Event,
    ) -> None:
        self.tally = tally
        self.under_way: deque[_Chunk] = deque()
        self._target = target
        self._notebook = notebook
        self._pool = pool
        self._stopping = stopping
        self._places = Places(target, notebook, pool)
        self._failure: Exception | None = None

    def refuses(self, image_id: int) -> bool:
        """Return whether a picture with this id of its own would replace an image that this run has added."""
        return self._places.are_in_use(image_id)

    def begin(self, chunk: list[Item]) -> None:
        """Begin to add those of a chunk that are not there unchanged."""
        placed = self._places.of(chunk)
        self.tally.unchanged += len(chunk) - len(placed)
        self._submit(placed, 0)

    def finish_oldest(self) -> None:
        """Wait for the chunk that was begun first, and begin again with those whose ids others have taken."""
        chunk = self.under_way.popleft()
        taken = self._finish(chunk)
        if taken and not self._stopping.is_set():
            self._begin_again(taken, chunk.times + 1)

    def finish_all(self, progress: Progress) -> None:
        """Finish all chunks; the first failure is raised once the others are written down."""
        failure: BaseException | None = None
        while self.under_way:
            try:
                if failure is None:
                    self.finish_oldest()
                else:
                    self._finish(self.under_way.popleft())
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
            progress(self.tally)
        if failure is not None:
            raise failure

    def _submit(self, placed: Placed, times: int) -> None:
        if placed:
            result = self._pool.submit(self._add, [entry for _, entry in placed])
            self.under_way.append(_Chunk(placed, result, times))

    def _add(self, entries: Sequence[Entry]) -> list[Added]:
        """Add a chunk; after a failure none is begun: a server that is away would be waited for once more."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._target.add(entries)
        except Exception as error:
            self._failure = error
            raise

    def _finish(self, chunk: _Chunk) -> Placed:
        """Write down what was added, and return what was not because others have taken the ids."""
        outcomes = chunk.result.result()
        done: dict[str, str] = {}
        taken: Placed = []
        for (item, entry), outcome in zip(chunk.placed, outcomes, strict=True):
            if outcome.is_taken:
                taken.append((item, entry))
            elif outcome.reason is None:
                done[item.key] = item.version
            else:
                self.tally.refused.append((item.name, outcome.reason))
            if outcome.is_damaged:
                self.tally.damaged.append(item.name)
        self._notebook.added(done)
        self.tally.added += len(done)
        return taken

    def _begin_again(self, taken: Placed, times: int) -> None:
        if times > MOST_TIMES:
            self.tally.refused += [(item.name, OUTRUN) for item, _ in taken]
            return
        placed = self._places.again(taken, times)
        self.tally.unchanged += len(taken) - len(placed)
        self._submit(placed, times)


def _chunks(items: Iterable[Item], run: _Run) -> Iterator[list[Item]]:
    """Yield items in chunks; a file named twice counts once, an id belongs to the first that claims it."""
    keys: set[str] = set()
    claimed: set[int] = set()
    tally = run.tally
    for chunk in _pieces(items):
        fresh = []
        for item in chunk:
            if item.key in keys:
                continue
            if item.image_id in claimed:
                tally.refused.append((item.name, f"another file has the id {item.image_id} already"))
                continue
            keys.add(item.key)
            if item.image_id is not None:
                if run.refuses(item.image_id):
                    tally.refused.append((item.name, IN_USE.format(item.image_id)))
                    continue
                claimed.add(item.image_id)
            fresh.append(item)
        yield fresh


def _pieces(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield pictures and hashes apart, as many as are added at once."""
    for is_hash, run in itertools.groupby(items, lambda item: isinstance(item.picture, str)):
        most = HASHES if is_hash else CHUNK
        piece: list[Item] = []
        held = 0
        for item in run:
            piece.append(item)
            held += len(item.picture) if isinstance(item.picture, bytes) else 0
            if len(piece) == most or held >= HELD_BYTES:
                yield piece
                piece, held = [], 0
        if piece:
            yield piece
