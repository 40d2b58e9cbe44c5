"""Chooses between arithmetic that is there at once and arithmetic that has to be compiled first.

Answers: does a command have so much to do that compiling pays? Else it answers within seconds, also on a
machine that has compiled nothing. Called by the commands that decode or search in their own process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from api.roles.command_parts.show import say
from api.roles.progress import COMPILING
from iqdb_core import forms
from iqdb_core.compiling import Compilation, Room, are_kept, is_in_room

MUCH: Final = 20_000
"""Images that plain arithmetic puts into an index in a second or two; with more, compiling pays."""
MANY: Final = 1_000
"""Whoever searches for so many images is better off with compiled arithmetic."""
SLOW_S: Final = 5.0
"""Once plain arithmetic has worked so long on pictures, more are likely to come. To compile what decodes them
takes ten seconds of a processor; a camera's picture takes one without, a small one a fortieth of that."""
_ROOMS: Final[tuple[Room, ...]] = ("signature", "index")


class Arithmetic:
    """Plain arithmetic for as long as this is open, until there is enough to do for the compiled.

    What was compiled before, and is on disk, is taken from the beginning. May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compilations: dict[Room, Compilation] = {}
        self._decoding_s = 0.0
        self._plain = [room for room in _ROOMS if not are_kept([room])]
        forms.use_plain(lambda place: any(is_in_room(place, room) for room in self._plain))

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Decode a picture inside; if all of them have taken long by then, compiling begins, aside."""
        start_s = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self._decoding_s += time.thread_time() - start_s
                is_slow = self._decoding_s >= SLOW_S
            if is_slow:
                self._begin("signature")

    def expect_searches(self, n: int) -> None:
        """Note that so many images are to be searched for; many set off compiling, aside."""
        if n >= MANY:
            self._begin("index")

    def prepare_index(self, n_images: int) -> None:
        """Wait for the compiled forms, and say so, if an index has so many images that it pays."""
        if n_images > MUCH and "index" in self._plain:
            say(COMPILING)
            self._begin("index")
            self._compilations["index"].wait("index")

    def close(self) -> None:
        """End what compiles, keeping what it has finished. Closing twice is harmless."""
        for compilation in self._compilations.values():
            compilation.close()
        forms.use_preferred()

    def _begin(self, room: Room) -> None:
        with self._lock:
            if room in self._plain and room not in self._compilations:
                # Nothing is said: nobody waits for it.
                self._compilations[room] = Compilation(
                    [room], on_compiling=lambda: None, on_fast=lambda _: None
                )
                self._compilations[room].begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
