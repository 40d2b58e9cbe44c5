"""Chooses between arithmetic that is there at once and arithmetic that has to be compiled first.

Answers: does a command have so much to do that compiling pays? Else it answers within seconds, also on a
machine that has compiled nothing. Called by the commands that decode or search in their own process.
"""

from __future__ import annotations

import threading
from typing import Final, Self

from api.roles.people.show import say
from api.roles.progress import COMPILING
from iqdb_core import forms
from iqdb_core.compiling import Compilation, Room, are_kept, is_in_room

MUCH: Final = 20_000
"""Images that plain arithmetic puts into an index in a second or two; with more it is worth to compile."""
MANY: Final[dict[Room, int]] = {"signature": 24, "index": 1_000}
"""Whoever decodes so many pictures, or searches for so many, is better off with compiled arithmetic."""


class Arithmetic:
    """Plain arithmetic for as long as this is open, until there is enough to do for the compiled.

    What was compiled before, and is on disk, is taken from the beginning. May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compilations: dict[Room, Compilation] = {}
        self._done = dict.fromkeys(MANY, 0)
        self._plain = [room for room in MANY if not are_kept([room])]
        forms.use_plain(lambda place: any(is_in_room(place, room) for room in self._plain))

    def count(self, room: Room, n: int = 1) -> None:
        """Note that `n` more pictures are decoded, or searched for; many set off compiling, aside."""
        with self._lock:
            self._done[room] += n
            is_much = self._done[room] >= MANY[room]
        if is_much:
            self._begin(room)

    def prepare(self, room: Room, n_images: int) -> None:
        """Wait for the compiled forms if there is much to do."""
        if n_images > MUCH:
            self._begin(room)
            if room in self._compilations:
                self._compilations[room].wait(room)

    def close(self) -> None:
        """End what compiles, keeping what it has finished. Closing twice is harmless."""
        for compilation in self._compilations.values():
            compilation.close()
        forms.use_preferred()

    def _begin(self, room: Room) -> None:
        with self._lock:
            if room in self._plain and room not in self._compilations:
                self._compilations[room] = Compilation(
                    [room], on_compiling=lambda: say(COMPILING), on_fast=lambda _: None
                )
                self._compilations[room].begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
