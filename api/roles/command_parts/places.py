"""Finds the id under which a picture goes, and whether it may replace what is there.

An id from a list or a name is what its owner says it is, and its image is replaced. An id that is given out
here may be somebody else's by the time the image arrives: the image goes under it only where there is none,
and replaces none but that of the same file. Called by `add`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.roles.command_parts.gather import Item
from api.roles.command_parts.notebook import Known, Notebook
from api.roles.command_parts.recognise import Recognition
from api.roles.command_parts.target import Entry, Target
from iqdb_core.errors import ConfigError
from iqdb_core.model import MAX_IMAGE_ID

_GAP_IDS: Final = 16
"""Up to so many ids are left to others when an id was taken twice; double that at each further time."""

Placed = list[tuple[Item, Entry]]


class Places:
    """Finds the places of pictures, and writes down what is given out and found; used from one thread.

    Parameters
    ----------
    target : Target
    notebook : Notebook
    pool : ThreadPoolExecutor
        Reads and decodes the files that may be there.
    """

    def __init__(self, target: Target, notebook: Notebook, pool: ThreadPoolExecutor) -> None:
        self._target = target
        self._notebook = notebook
        self._pool = pool
        self._recognition = Recognition(target, pool)
        self._ids = _Ids(target, self._recognition, notebook)
        self._in_use: set[int] = set()

    def of(self, items: Sequence[Item]) -> Placed:
        """Return those of the items that have to be added; all others are there unchanged."""
        known = self._notebook.known([item.key for item in items])
        self._ids.leave({item.image_id for item in items if item.image_id is not None})
        given = [item for item in items if item.image_id is None]
        noted = [
            item
            for item in given
            if item.key in known
            and known[item.key][1] is not None
            and not self._ids.are_left(known[item.key][0])
        ]
        there = self._target.there([known[item.key][0] for item in noted]) if noted else {}
        own, done = self._own(noted, known, there)
        self._in_use |= {known[item.key][0] for item in noted if item.key in own}
        lost = {item.key for item in noted} - own
        done |= self._recognised([item for item in given if item.key not in known or item.key in lost])
        done |= self._explicit([item for item in items if item.image_id is not None], known)
        placed = [(item, self._entry(item, known, own, there)) for item in items if item.key not in done]
        self._note(placed, known)
        return placed

    def are_in_use(self, image_id: int) -> bool:
        """Tell whether a picture of this run has an id that nobody gave it."""
        return image_id in self._in_use

    def again(self, taken: Placed, times: int) -> Placed:
        """Return with other ids those pictures whose ids somebody else has.

        Those that are left out are there: an answer was lost, and what had been added was sent once more.

        Parameters
        ----------
        taken : list of (Item, Entry)
        times : int
            How often this happened to them, at least 1.
        """
        there = self._target.there([entry.image_id for _, entry in taken])
        candidates = [
            (item, entry.image_id)
            for item, entry in taken
            if entry.image_id in there and there[entry.image_id] == item.source
        ]
        ours = self._same(candidates)
        self._notebook.added({item.key: item.version for item, _ in taken if item.key in ours})
        rest = [item for item, _ in taken if item.key not in ours]
        if not rest:
            return []
        self._ids.look_again(times)
        placed = [(item, Entry(self._ids.next(), item.picture, item.source, if_absent=True)) for item in rest]
        self._note(placed, {})
        return placed

    def _entry(self, item: Item, known: Known, own: set[str], there: Mapping[int, str | None]) -> Entry:
        if item.image_id is not None:
            return Entry(item.image_id, item.picture, item.source)
        had = known[item.key][0] if item.key in known else None
        if had is not None and item.key in own:
            return Entry(had, item.picture, item.source)
        # One that was never added, or is there no more, goes where it was to go, if that is free.
        is_free = had is not None and had not in there and not self._ids.are_left(had)
        image_id = had if had is not None and is_free else self._ids.next()
        return Entry(image_id, item.picture, item.source, if_absent=True)

    def _note(self, placed: Placed, known: Known) -> None:
        """Write down ids before anything is added with them."""
        ids = {item.key: entry.image_id for item, entry in placed}
        self._in_use |= {entry.image_id for item, entry in placed if item.image_id is None}
        self._notebook.assign(
            {key: one for key, one in ids.items() if key not in known or known[key][0] != one}
        )

    def _own(
        self, items: Sequence[Item], known: Known, there: Mapping[int, str | None]
    ) -> tuple[set[str], set[str]]:
        """Return the keys of items whose image is still under their id, and of those whose image shows them.

        An image is known by its source. Where it has none, or another one by now, what it shows decides, also
        for a file that was only touched.
        """
        own: set[str] = set()
        unchanged: set[str] = set()
        doubtful = []
        for item in items:
            image_id, version = known[item.key]
            has_source = image_id in there and there[image_id] == item.source
            is_changed = version != item.version
            if has_source and (is_changed or item.source is not None):
                own.add(item.key)
                unchanged |= set() if is_changed else {item.key}
            elif image_id in there:
                doubtful.append((item, image_id))
        same = self._same(doubtful)
        self._notebook.added({item.key: item.version for item, _ in doubtful if item.key in same})
        return own | same, unchanged | same

    def _same(self, pairs: Iterable[tuple[Item, int]]) -> set[str]:
        """Return the keys of those items that the images show."""
        pairs = list(pairs)
        same = self._pool.map(lambda pair: self._target.is_same(pair[1], pair[0].picture), pairs)
        return {item.key for (item, _), is_same in zip(pairs, same, strict=True) if is_same}

    def _recognised(self, items: Sequence[Item]) -> set[str]:
        """Return the keys of those that are there though the notebook does not say so; now it does."""
        if not items:
            return set()
        found = self._recognition.ids_of(items)
        # What is there under another key as well, as a file of a list, stays with that.
        held = self._notebook.held(list(found.values()))
        self._notebook.assign({key: image_id for key, image_id in found.items() if image_id not in held})
        self._notebook.added(
            {item.key: item.version for item in items if found.get(item.key, -1) not in {-1, *held}}
        )
        return set(found)

    def _explicit(self, items: Sequence[Item], known: Known) -> set[str]:
        """Return the keys of those with ids of their own that are there unchanged."""
        same = {
            item.key: item.image_id
            for item in items
            if item.image_id is not None and known.get(item.key) == (item.image_id, item.version)
        }
        gone = self._target.missing(sorted(same.values())) if same else set()
        return {key for key, image_id in same.items() if image_id not in gone}


class _Ids:
    """Gives out ids above all that are in use, as far as that is known."""

    def __init__(self, target: Target, recognition: Recognition, notebook: Notebook) -> None:
        self._target = target
        self._recognition = recognition
        self._notebook = notebook
        self._left: set[int] = set()
        self._largest: int | None = None
        """The largest one that an image had when it was asked last."""
        self._next = 1

    def next(self) -> int:
        """Return an id that is in no use; raises ConfigError if none is left."""
        self._begin()
        while self._next in self._left:
            self._next += 1
        if self._next > MAX_IMAGE_ID:
            raise ConfigError("there is no id left to give out: the largest possible one is in use")
        self._next += 1
        return self._next - 1

    def leave(self, image_ids: set[int]) -> None:
        """Leave ids to pictures of this run that a name or a list gives them."""
        self._left |= image_ids

    def are_left(self, image_id: int) -> bool:
        """Tell whether an id belongs to such a picture."""
        return image_id in self._left

    def look_again(self, times: int) -> None:
        """Go on above the ids that others have got meanwhile.

        A faster program has more ids in hand than can be seen yet, and would be met at each of them: from the
        second time on, some ids are skipped.
        """
        largest = self._begin()
        for image_id, _ in self._target.listed(largest):
            largest = image_id
        gap = random.randrange(_GAP_IDS << (times - 1)) if times > 1 else 0
        self._largest = largest
        self._next = max(self._next, largest + 1, min(largest + 1 + gap, MAX_IMAGE_ID))

    def _begin(self) -> int:
        if self._largest is None:
            self._largest = self._recognition.largest_id()
            self._next = max(1, self._largest + 1, self._notebook.largest_id() + 1)
        return self._largest
