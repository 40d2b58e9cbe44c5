"""`iqdb add`: many pictures into a database or a server, in parallel, to be interrupted and gone on with."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from api.roles.people.gather import Item
from api.roles.people.notebook import Known, Notebook
from api.roles.people.recognise import Recognition
from api.roles.people.target import Added, Entry, Target
from iqdb_core.errors import ConfigError
from iqdb_core.model import MAX_IMAGE_ID

CHUNK: Final = 16
"""Pictures that one thread adds at once, in one transaction or one request."""
HASHES: Final = 512
"""The same of hashes, of which nothing has to be decoded."""


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


class Progress(Protocol):
    """Is told the tally after every chunk."""

    def __call__(self, tally: Tally) -> None:
        """Show it."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    items: list[Item]
    result: Future[list[Added]]


def add_all(
    items: Iterable[Item],
    target: Target,
    notebook: Notebook,
    *,
    threads: int,
    progress: Progress,
    stopping: threading.Event,
) -> Tally:
    """Add every item that is not there unchanged.

    Parameters
    ----------
    items : iterable of Item
        Read as it goes; its errors end the run after what is in hand.
    target : Target
    notebook : Notebook
        Used from this thread only.
    threads : int
        Chunks under way at once, at least 1.
    progress : callable of (Tally)
    stopping : Event
        When set, what is in hand is finished and the rest is left.

    Returns
    -------
    Tally
        Whether all were added, and which were refused and why.

    Raises
    ------
    IqdbError, ClientError
        The target refuses or fails as a whole. What was added before is in, and known to the notebook.
    """
    tally = Tally()
    under_way: deque[_Chunk] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="add") as pool:
        recognition = Recognition(target, pool)
        ids = _Ids(recognition, notebook)
        try:
            for chunk in _chunks(items, tally):
                if stopping.is_set():
                    break
                known = notebook.known([item.key for item in chunk])
                rest = _not_there(chunk, known, recognition, notebook, tally)
                entries = _to_add(rest, known, ids, target, notebook, tally)
                if entries:
                    result = pool.submit(target.add, [entry for _, entry in entries])
                    under_way.append(_Chunk([item for item, _ in entries], result))
                while len(under_way) > threads:
                    _finish(under_way.popleft(), notebook, tally)
                progress(tally)
        finally:
            # Also when something failed: what the other threads have added is written down.
            _finish_all(under_way, notebook, tally, progress)
    return tally


def _finish_all(under_way: deque[_Chunk], notebook: Notebook, tally: Tally, progress: Progress) -> None:
    failure: BaseException | None = None
    while under_way:
        try:
            _finish(under_way.popleft(), notebook, tally)
        except Exception as error:  # noqa: BLE001 - raised below, once the others are written down
            failure = failure or error
        progress(tally)
    if failure is not None:
        raise failure


def _finish(chunk: _Chunk, notebook: Notebook, tally: Tally) -> None:
    outcomes = chunk.result.result()
    done: dict[str, str] = {}
    for item, outcome in zip(chunk.items, outcomes, strict=True):
        if outcome.reason is None:
            done[item.key] = item.version
        else:
            tally.refused.append((item.key, outcome.reason))
        if outcome.is_damaged:
            tally.damaged.append(item.key)
    notebook.added(done)
    tally.added += len(done)


def _not_there(
    chunk: list[Item], known: Known, recognition: Recognition, notebook: Notebook, tally: Tally
) -> list[Item]:
    """Return a chunk without what is there though the notebook knows nothing of it, which is written down."""
    unknown = [item for item in chunk if item.key not in known and item.image_id is None]
    if not unknown:
        return chunk
    found = recognition.ids_of(unknown)
    # What is there under another key as well, as a file of a list, stays with that.
    held = notebook.held(list(found.values()))
    notebook.assign({key: image_id for key, image_id in found.items() if image_id not in held})
    notebook.added({item.key: item.version for item in unknown if found.get(item.key, -1) not in {-1, *held}})
    tally.unchanged += len(found)
    return [item for item in chunk if item.key not in found]


def _to_add(
    chunk: list[Item], known: Known, ids: _Ids, target: Target, notebook: Notebook, tally: Tally
) -> list[tuple[Item, Entry]]:
    """Return what of a chunk has to be added, with ids that are written down."""
    same = {
        known[item.key][0]
        for item in chunk
        if item.key in known
        and known[item.key][1] == item.version
        and item.image_id in {None, known[item.key][0]}
    }
    gone = target.missing(sorted(same)) if same else set()
    entries = []
    assigned: dict[str, int] = {}
    for item in chunk:
        had = known.get(item.key)
        image_id = item.image_id if item.image_id is not None else had[0] if had else ids.next()
        if had is not None and had[1] == item.version and image_id == had[0] and image_id not in gone:
            tally.unchanged += 1
            continue
        if had is None or had[0] != image_id:
            assigned[item.key] = image_id
        entries.append((item, Entry(image_id, item.picture, item.source)))
    notebook.assign(assigned)
    return entries


class _Ids:
    """Gives out ids above all that are in use."""

    def __init__(self, recognition: Recognition, notebook: Notebook) -> None:
        self._recognition = recognition
        self._notebook = notebook
        self._numbers: Iterator[int] | None = None

    def next(self) -> int:
        if self._numbers is None:
            largest = max(self._recognition.largest_id(), self._notebook.largest_id())
            self._numbers = itertools.count(max(1, largest + 1))
        number = next(self._numbers)
        if number > MAX_IMAGE_ID:
            raise ConfigError("there is no id left to give out: the largest possible one is in use")
        return number


def _chunks(items: Iterable[Item], tally: Tally) -> Iterator[list[Item]]:
    """Yield items in chunks; a file named twice counts once, an id belongs to the first that claims it."""
    keys: set[str] = set()
    claimed: set[int] = set()
    for chunk in _pieces(items):
        fresh = []
        for item in chunk:
            if item.key in keys:
                continue
            if item.image_id in claimed:
                tally.refused.append((item.key, f"another file has the id {item.image_id} already"))
                continue
            keys.add(item.key)
            if item.image_id is not None:
                claimed.add(item.image_id)
            fresh.append(item)
        yield fresh


def _pieces(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield pictures and hashes apart, as many as are added at once."""
    for is_hash, run in itertools.groupby(items, lambda item: isinstance(item.picture, str)):
        while piece := list(itertools.islice(run, HASHES if is_hash else CHUNK)):
            yield piece
